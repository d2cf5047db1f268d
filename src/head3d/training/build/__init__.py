"""Networks from parameters, a module for each stage, so that a stage depends on its own networks only."""
