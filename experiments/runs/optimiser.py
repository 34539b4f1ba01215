"""What moves a network's weights: Muon and SGD, with learning rates by part."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.runs.muon import Muon
from ledger.config import Optim, Protocol

SGD_SHARE, ADDED_SHARE = 0.25, 0.05
"""Beside Muon: SGD's learning rate in the backbone, and in what a method adds to it, as shares of Muon's, whose steps
are of another kind. What is added learns from gradients that come through the whitening, which makes them steep."""
MUON_MOMENTUM = 0.6


class Optimiser:
    """SGD for all parameters; or Muon for the filters of the backbone, and SGD for all else.

    What a method adds to the backbone is a part of its own, such as a localisation network, and has SGD in either case.
    Weight decay applies to weights under SGD, not to biases and normalisation.

    lr_factors: learning rate of each child module of the network as a factor of the others'; 1 for those not named.
    """

    def __init__(self, network: nn.Module, protocol: Protocol, optim: Optim, lr_factors: Mapping[str, float]) -> None:
        by_muon, by_sgd = list[dict[str, Any]](), list[dict[str, Any]]()
        for name, part in network.named_children():
            trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
            filters = filters_of(part) if protocol.optimiser == "muon" and name == "backbone" else []
            rest = [each for each in trained if each.ndim != 4] if filters else trained
            lr = optim.lr * lr_factors.get(name, 1.0)
            by_muon.append({"params": filters, "lr": lr})
            if protocol.optimiser == "muon":
                lr *= SGD_SHARE if name == "backbone" else ADDED_SHARE
            by_sgd += [
                {"params": [each for each in rest if each.ndim > 1], "lr": lr, "weight_decay": optim.weight_decay},
                {"params": [each for each in rest if each.ndim <= 1], "lr": lr, "weight_decay": 0.0},
            ]
        by_muon, by_sgd = ([group for group in groups if group["params"]] for groups in (by_muon, by_sgd))
        self.parts: list[torch.optim.Optimizer] = []
        if by_muon:
            self.parts.append(Muon(by_muon, momentum=MUON_MOMENTUM))
        if by_sgd:
            nesterov = protocol.nesterov and protocol.momentum > 0
            # Fused: one kernel for all parameters, and it honours `found_inf`.
            self.parts.append(torch.optim.SGD(by_sgd, momentum=protocol.momentum, nesterov=nesterov, fused=True))
        self.groups = [group for part in self.parts for group in part.param_groups]
        for group in self.groups:
            group["peak"] = group["lr"]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, share: float = 1.0, diverged: Tensor | None = None) -> None:
        """share: of the peak learning rates. diverged: nothing is done where it is true; it stays on the device."""
        for group in self.groups:
            group["lr"] = share * group["peak"]
        for part in self.parts:
            part.found_inf = None if diverged is None else diverged.float()  # type: ignore[attr-defined]
            part.step()

    def momenta(self, network: nn.Module) -> dict[str, Tensor]:
        """By the parameter's name, as far as there are any yet."""
        buffers = {
            parameter: state.get("momentum_buffer") for part in self.parts for parameter, state in part.state.items()
        }
        return {
            name: buffers[parameter]
            for name, parameter in network.named_parameters()
            if buffers.get(parameter) is not None
        }

    def take_momenta(self, network: nn.Module, momenta: Mapping[str, Tensor]) -> None:
        """Go on with these."""
        owner = {parameter: part for part in self.parts for group in part.param_groups for parameter in group["params"]}
        for name, parameter in network.named_parameters():
            if name in momenta:
                owner[parameter].state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momenta[name])


def filters_of(part: nn.Module) -> list[nn.Parameter]:
    """The weights of its convolutions, as far as they are trained: (out channels, in channels, rows, columns)."""
    return [parameter for parameter in part.parameters() if parameter.requires_grad and parameter.ndim == 4]
