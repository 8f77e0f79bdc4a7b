"""The commands: one module a group, each a struct of flags and a function."""
