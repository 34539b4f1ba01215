"""Models: what trains, put together from the parts in stn/ and baselines/. One file each; all of `Stn` in `stn.py`.

A model is a frozen dataclass whose fields are its hyper-parameters; `build` makes the network. The first sentence of
its docstring is what reports say of it.
"""

from collections.abc import Callable

from baselines.registry import Registry
from experiments.networks.model import Model

MODELS: Registry[Callable[..., Model]] = Registry("model", __name__)
