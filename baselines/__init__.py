"""What spatial transformers are compared with: backbones and augmentation policies, one file each."""
