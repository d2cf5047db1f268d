"""Sections of ``params.yaml`` that have a module of their own, and the types that all of them use."""
