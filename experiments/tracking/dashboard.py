"""What the trackers bring along to look at runs with: W&B's in the terminal, trackio's in a browser."""

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from experiments.tracking.sink import check_installed
from experiments.tracking.tracker import offline_env
from experiments.tracking.trackio_database import local_environment
from ledger.errors import UserError


def dashboard(ledger: Path, tracker: str = "wandb", project: str = "") -> NoReturn:
    """Become the tracker's own dashboard on the ledger's runs: `wandb leet`, or `trackio show` of that project.

    Raises UserError if none was logged yet, and for W&B's without a terminal.
    """
    folder = (ledger / tracker).absolute()
    if not any(folder.glob("*.db" if tracker == "trackio" else "offline-run-*/*.wandb")):
        raise UserError(f"{ledger / tracker}: no runs to show yet; a sweep or a run writes them")
    if tracker == "trackio":
        check_installed(tracker)
        command = [sys.executable, "-P", "-m", "trackio.cli", "show", "--project", project]
        environment = local_environment(os.environ, folder)
    else:
        if not (os.isatty(0) and os.isatty(1)):
            raise UserError("the dashboard needs a terminal; docs/wandb.md says how to print one run instead")
        command = [sys.executable, "-P", "-m", "wandb", "leet", str(folder)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        environment |= offline_env(str(folder)) | {
            "WANDB_DIR": tempfile.gettempdir()
        }  # for its log, named for the user
    os.chdir(folder)  # where no settings file is that W&B would complain about
    os.execve(command[0], command, environment)
