"""Names of variants on few short lines."""

import re


def wrapped(text: str, width: int) -> str:
    """A name on as few lines as its parts allow: broken before @ + : where a line would be longer than `width`.

    A part that is longer than a line by itself ends in an ellipsis.
    """
    lines, line = [], ""
    for part in re.split("(?<!^)(?=[@+:])", text):
        if line and len(line) + len(part) > width:
            lines.append(line)
            line = ""
        line += part
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in [*lines, line])
