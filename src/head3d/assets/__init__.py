"""Pretrained weights and sample videos: what there is, where it comes from, and the cache that keeps it."""
