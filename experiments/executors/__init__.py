"""Executors: where runs are carried out. Nothing else in the program knows which one works."""
