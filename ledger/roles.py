"""What a model is to a study, as its file says and study.json has it."""

from typing import Literal, get_args

Role = Literal["plain", "matched", "transformer", "other", "floor", "ceiling", "told"]
"""plain: the network as it is, which the others are compared with; matched: the same, made as large as another.
transformer: a network that learns where to look. other: any other change to the network.
Three controls. floor: a transformer that cannot help. ceiling: a network that is told each image's true pose, always.
told: a transformer that is told the true poses in training."""

ROLES: tuple[str, ...] = get_args(Role)
PLAIN: tuple[Role, ...] = ("plain", "matched")
WITH_TRANSFORMER: tuple[Role, ...] = ("transformer", "floor", "told")
"""Roles of networks that have a transformer."""
SEES_POSE: tuple[Role, ...] = ("ceiling", "told")
CONTROLS: tuple[Role, ...] = ("floor", "ceiling", "told")
