"""Folders of image files: which hold what, what is read of them, and how it is told."""
