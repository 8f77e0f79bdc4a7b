"""Simulated worlds: one folder each, found by name; the only home of mujoco."""
