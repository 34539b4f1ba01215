"""Models and what they are built from: backbone, transformer, head."""
