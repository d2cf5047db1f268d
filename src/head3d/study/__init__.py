"""The rater study of Table 2: people say which of two videos of the same pair is better."""
