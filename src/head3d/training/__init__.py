"""The three training stages: one loop, one file a stage."""
