"""Training loops over any learner, from logs; checkpoints; evaluation in a world."""
