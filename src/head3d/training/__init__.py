"""Trainings: the three stages, the matcher, the small parser and the baselines; one loop, one file for each."""
