"""Whether the probe's advice is right: on folders of images whose truth a study long enough has found."""
