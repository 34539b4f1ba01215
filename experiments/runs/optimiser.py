"""What moves a network's weights: Muon and SGD, or AdamW, with learning rates by part."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from baselines.backbones import Backbone
from experiments.runs.muon import Muon
from ledger.config import Optim, Protocol

SGD_SHARE, ADDED_SHARE = 0.25, 0.05
"""Beside Muon: SGD's learning rate in the backbone, and in what a method adds to it, as shares of Muon's, whose steps
are of another kind. What is added learns from gradients that come through the whitening, which makes them steep."""
MUON_MOMENTUM = 0.6
OF_ADAMW = ("exp_avg", "exp_avg_sq", "step")
"""What torch's AdamW keeps of each parameter; the others keep a `momentum_buffer`."""


class Optimiser:
    """SGD or AdamW for all parameters; or Muon for the filters of backbones, and SGD for all else.

    What a method adds is a part of its own, such as a localisation network, and has SGD where there is Muon, unless
    it is a backbone too. Weight decay applies to weights under SGD and AdamW, not to biases and normalisation.

    lr_factors: learning rate of each child module of the network as a factor of the others'; 1 for those not named.
    """

    def __init__(self, network: nn.Module, protocol: Protocol, optim: Optim, lr_factors: Mapping[str, float]) -> None:
        by_muon, others = list[dict[str, Any]](), list[dict[str, Any]]()
        for name, part in network.named_children():
            is_backbone = isinstance(part, Backbone)
            for factor, trained in by_factor(part).items():
                has_muon = protocol.optimiser == "muon" and is_backbone
                filters = [each for each in trained if each.ndim == 4] if has_muon else []
                rest = [each for each in trained if each.ndim != 4] if has_muon else trained
                lr = optim.lr * lr_factors.get(name, 1.0) * factor
                by_muon.append({"params": filters, "lr": lr})
                if protocol.optimiser == "muon":
                    lr *= SGD_SHARE if is_backbone else ADDED_SHARE
                others += [
                    {"params": [each for each in rest if each.ndim > 1], "lr": lr, "weight_decay": optim.weight_decay},
                    {"params": [each for each in rest if each.ndim <= 1], "lr": lr, "weight_decay": 0.0},
                ]
        by_muon, others = ([group for group in groups if group["params"]] for groups in (by_muon, others))
        self.is_adamw = protocol.optimiser == "adamw"
        self.parts: list[torch.optim.Optimizer] = []
        if by_muon:
            self.parts.append(Muon(by_muon, momentum=MUON_MOMENTUM))
        # Fused: one kernel for all parameters, and it honours `found_inf`.
        if others and self.is_adamw:
            self.parts.append(torch.optim.AdamW(others, fused=True))
        elif others:
            nesterov = protocol.nesterov and protocol.momentum > 0
            self.parts.append(torch.optim.SGD(others, momentum=protocol.momentum, nesterov=nesterov, fused=True))
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
        """By the parameter's name, as far as there are any yet; of AdamW, which keeps several, by `NAME:WHICH`."""
        states = {parameter: state for part in self.parts for parameter, state in part.state.items()}
        return {
            name: value
            for known_as, parameter in network.named_parameters()
            for name, key, _ in self._kept_of(known_as, parameter)
            if (value := states.get(parameter, {}).get(key)) is not None
        }

    def known_momenta(self, network: nn.Module) -> dict[str, Tensor]:
        """Tensors like all the momenta that there can be, by the same names."""
        trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        return {name: like for pair in trained for name, _, like in self._kept_of(*pair)}

    def take_momenta(self, network: nn.Module, momenta: Mapping[str, Tensor]) -> None:
        """Go on with these."""
        owner = {parameter: part for part in self.parts for group in part.param_groups for parameter in group["params"]}
        for known_as, parameter in network.named_parameters():
            for name, key, like in self._kept_of(known_as, parameter):
                if name in momenta:
                    owner[parameter].state[parameter][key] = torch.empty_like(like).copy_(momenta[name])

    def _kept_of(self, name: str, parameter: Tensor) -> list[tuple[str, str, Tensor]]:
        """What is kept of a parameter: its name among the momenta and in torch's state, and a tensor like it."""
        if not self.is_adamw:
            return [(name, "momentum_buffer", parameter)]
        count = torch.zeros((), device=parameter.device)  # of steps
        return [(f"{name}:{key}", key, count if key == "step" else parameter) for key in OF_ADAMW]


def by_factor(part: nn.Module) -> dict[float, list[nn.Parameter]]:
    """Its parameters that are trained, by the factor on their learning rate that a backbone has for its layers."""
    factors, found = part.lr_factors if isinstance(part, Backbone) else {}, dict[float, list[nn.Parameter]]()
    for name, parameter in part.named_parameters():
        if parameter.requires_grad:
            found.setdefault(factors.get(name, 1.0), []).append(parameter)
    return found


def filters_of(part: nn.Module) -> list[nn.Parameter]:
    """The weights of its convolutions, as far as they are trained: (out channels, in channels, rows, columns)."""
    return [parameter for parameter in part.parameters() if parameter.requires_grad and parameter.ndim == 4]
