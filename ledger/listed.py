"""Which runs a study's manifest lists."""

from collections.abc import Mapping
from typing import Any


def keys_of(arm: Mapping[str, Any]) -> list[str]:
    """All of an arm, trials first; those of smaller sizes last, which older manifests do not have."""
    return [*arm["trials"], *arm["finals"], *(key for rung in arm.get("rungs", ()) for key in rung)]


def winners_of(arm: Mapping[str, Any]) -> list[str | None]:
    """Keys of the trials that won, one of each tuning; none before an arm is tuned. Older manifests have one tuning."""
    if "winners" in arm:
        return list(arm["winners"])
    return [arm["winner"]] if arm["finals"] else []
