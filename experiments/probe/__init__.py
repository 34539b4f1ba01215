"""A probe: whether augmentation or a spatial transformer would help on a folder of images, in minutes."""
