"""What the program knows of the machine that it runs on."""
