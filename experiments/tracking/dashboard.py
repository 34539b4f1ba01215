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

_FILES = {"wandb": "offline-run-*/*.wandb", "trackio": "*.db"}
# Its own command shares the page with the world on some hosts, and where variables of Gradio's say so.
_SHOW = 'import trackio; trackio.show(share=False, host="127.0.0.1", mcp_server=False, block_thread=True)'


def dashboard(ledger: Path) -> NoReturn:
    """Become the dashboard of the tracker that was last written to: `wandb leet`, or trackio's on this machine alone.

    Raises UserError if no run was logged yet, and for W&B's without a terminal.
    """
    files = [(file, tracker) for tracker, names in _FILES.items() for file in (ledger / tracker).glob(names)]
    if not files:
        raise UserError(f"{ledger}: no runs to show yet; a sweep or a run writes them")
    _, tracker = max(files, key=lambda found: found[0].stat().st_mtime)
    folder = (ledger / tracker).absolute()
    if tracker == "trackio":
        check_installed(tracker)
        command = [sys.executable, "-P", "-c", _SHOW]
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
