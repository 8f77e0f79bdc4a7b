"""What is wrong with this computer or this robot, and what to do about it."""
