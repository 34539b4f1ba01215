"""How this program was started, for messages that say what to type."""

import shlex
import shutil
import sys
from pathlib import Path

SCRIPT = "stn-bench"


def program() -> str:
    """What to put before a command's name: the form in which this process was started."""
    python, *words = sys.orig_argv
    if words[:1] and Path(words[0]).name == SCRIPT:
        return SCRIPT if shutil.which(SCRIPT) == words[0] else shlex.quote(words[0])
    if words[:2] == ["-m", "experiments"]:  # as make does, with .venv/bin/python
        return f"{shlex.quote(python)} -m experiments"
    return "python -m experiments"  # such as of a process that was spawned
