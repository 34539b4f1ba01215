"""Backbones: classifiers that a spatial transformer may stand in front of, or inside. One file each."""

from baselines.backbones.backbone import BACKBONES, Backbone

__all__ = ["BACKBONES", "Backbone"]
