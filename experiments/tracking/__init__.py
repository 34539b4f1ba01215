"""Weights & Biases: what it is told of a run, and how it gets there."""
