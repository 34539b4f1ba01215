"""Matplotlib as it is delivered: nothing that a user, a notebook or a folder has set for it reaches our figures.

While it is imported, it reads MPLBACKEND, the first matplotlibrc that it finds (the current folder's goes before all
others) and the user's styles. What is wrong with one of them would end a command that has nothing to do with it.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch


@contextmanager
def quiet() -> Iterator[None]:
    """Matplotlib logs nothing within it: where it keeps its caches, and how long they take, troubles nobody else."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


if "matplotlib" not in sys.modules:  # else it has to do that our style starts from the defaults
    found, exists = importlib.util.find_spec("matplotlib"), os.path.exists
    assert found and found.origin
    defaults = Path(found.origin).with_name("mpl-data") / "matplotlibrc"
    with quiet(), patch.dict(os.environ, MPLBACKEND="agg", MATPLOTLIBRC=str(defaults)):
        with patch("os.path.exists", lambda path: path != "matplotlibrc" and exists(path)):  # the current folder's
            import matplotlib
        with patch("matplotlib.get_configdir", matplotlib.get_data_path):  # all styles are its own
            import matplotlib.font_manager
            import matplotlib.style
