"""Loops over any learner, checkpoints and evaluation."""
