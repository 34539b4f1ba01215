"""Corruptions: ways in which images are disturbed after training, at five severities, to see what a network withstands.

What they do to values is that of CIFAR-10-C, with its constants, made on the fly: Hendrycks & Dietterich 2019,
Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, arXiv:1903.12261, and the program that
made the set (hendrycks/robustness, make_cifar_c.py). Left out are those that need pictures or fractals: glass and zoom
blur, snow, frost, fog, spatter. Values stay real numbers; the stored set has them cut to 8 bits.
What they do to geometry is our own choice, but for the elastic one's idea.

All lengths are those of 32-pixel images, and in proportion for others.
"""

from experiments.images.corruptions.corruption import CIFAR_PX, CORRUPTIONS, SEVERITIES, Corruption

__all__ = ["CIFAR_PX", "CORRUPTIONS", "SEVERITIES", "Corruption"]
