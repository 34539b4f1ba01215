"""Tasks, the poses and corruptions that their images are put under, and random draws."""
