"""Whether the probe's advice is right: on folders of images of which a longer study has found the truth."""
