"""The process that owns a robot."""
