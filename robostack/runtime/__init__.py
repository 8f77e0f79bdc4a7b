"""The process that runs a bundle against a node."""
