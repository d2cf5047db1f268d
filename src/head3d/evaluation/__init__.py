"""Measuring: protocols and metrics."""
