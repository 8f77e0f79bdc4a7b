"""Estimators of what a policy would earn, from logs: one file each, found by name."""
