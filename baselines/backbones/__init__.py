"""Backbones: classifiers that a spatial transformer may stand in front of, or inside. One file each."""

from baselines.backbones.backbone import BACKBONES, Backbone, BuildBackbone

__all__ = ["BACKBONES", "Backbone", "BuildBackbone"]
