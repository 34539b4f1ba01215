"""Networks of timm, pretrained or not, as backbones: `timm:NAME`.

timm is an extra that not all have installed: it is imported when such a network is asked for, and not before.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from baselines.backbones.backbone import Backbone
from baselines.ranges import Ranged, within

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Of files of weights."""
OF_ONE_VALUE = "Expected more than 1 value per channel when training"
"""Begins what torch says where a map of one image has shrunk to one pixel before it is normalised."""

Stages = tuple[tuple[str, ...], ...]
"""The names of a network's modules, stage by stage, those of the head last."""


@dataclass(frozen=True)
class TimmNetwork(Ranged):
    """A network of timm by its name there, as in `timm:resnet18`; its weights are never downloaded.

    A transformer may stand before each; and inside (place=feature, place=shared), after the stages that timm names,
    those whose modules follow one another, as a ResNet's, an EfficientNet's and a ConvNeXt's do, and a ViT's do not.

    weights: that it starts from, and whose mean and deviation of colours images are normalised by. `none`: random ones.
        `cache`: those that timm has downloaded to this machine before. Else a file's path. The program calls them by
        the hash of the file's content, of which it keeps a copy.
    frozen: whether of it the classifier alone is trained, and normalisation keeps its statistics.
    lr_decay: factor on the learning rate from each of its layers to the one before; the last one has the full rate.
    """

    weights: str = "none"
    frozen: bool = False
    lr_decay: float = within(0, 1, 1.0, ends="(]")

    def build(self, network: str, *, num_classes: int, image_px: int, in_channels: int, width: float) -> Backbone:
        """As BuildBackbone says. weights: `none` or a file's path, here."""
        if width != 1:
            raise ValueError(f"width: {width:g} does not go with timm:{network}, whose width is its own; 1 does")
        size = {"num_classes": num_classes, "image_px": image_px, "in_channels": in_channels}
        stages = _stages(network, **size)
        if self.weights == "none":
            model = _model(network, **size)
        elif torch.get_default_device().type == "meta":
            _check(network, Path(self.weights), os.stat(self.weights).st_mtime_ns, **size)
            model = _model(network, **size)
        else:
            model = _pretrained(network, Path(self.weights), **size)
        names = {parameter: name for name, parameter in model.named_parameters()}
        layers = self._layers(network, model)
        if self.frozen:
            classifier = model.get_classifier()
            model.requires_grad_(False)
            for part in classifier if isinstance(classifier, Sequence) else (classifier,):
                part.requires_grad_(True)
        parts: list[nn.Module] = [nn.Sequential(*map(model.get_submodule, stage)) for stage in stages] or [model]
        backbone = TimmBackbone(parts[:-1], parts[-1])
        backbone.keeps_statistics = self.frozen
        depth = max(layers.values(), default=0)
        backbone.lr_factors = {
            name: self.lr_decay ** (depth - layers[names[parameter]])
            for name, parameter in backbone.named_parameters()
            if layers
        }
        return backbone

    def _layers(self, network: str, model: Any) -> Mapping[str, int]:
        """By the parameter's name, which layer it is of, from the image on; {} where that does not matter."""
        if self.lr_decay == 1:
            return {}
        from timm.models import group_parameters

        if not hasattr(model, "group_matcher"):
            raise ValueError(f"lr_decay: timm does not say which layers timm:{network} has")
        layers: dict[str, int] = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
        return layers


class TimmBackbone(Backbone):
    """keeps_statistics: whether what is not trained is as in evaluation, always."""

    keeps_statistics = False

    def train(self, mode: bool = True) -> "TimmBackbone":
        super().train(mode)
        for module in self.modules() if self.keeps_statistics else ():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()
        return self


@lru_cache(maxsize=1)
def known_networks() -> tuple[str, ...]:
    """All names, and those with tags of weights, such as resnet18.a1_in1k. Raises ValueError without timm."""
    try:
        import timm
    except ImportError as error:
        missing = f" ({error})" if error.name != "timm" else ""
        raise ValueError(f"timm is not installed{missing}; pip install 'stn-bench[timm]'") from None
    return (*timm.list_models(), *timm.list_models(pretrained=True))


def colours(network: str, num_channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation, by channel, of the pixels in [0, 1] that the network's weights are made for."""
    config = _config(network)
    values = (torch.tensor(each) for each in (config.mean, config.std))
    # For grey images timm adds the first layer's weights of all colours up.
    mean_C, std_C = (each if len(each) == num_channels else each.mean().expand(num_channels) for each in values)
    return mean_C, std_C


def downloaded_weights(network: str) -> Path | None:
    """Where timm has put the network's weights on this machine, if it has."""
    from huggingface_hub import try_to_load_from_cache

    config = _config(network)
    if config.hf_hub_id:
        names = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        repository, _, revision = config.hf_hub_id.partition("@")
        for name in names:
            if isinstance(found := try_to_load_from_cache(repository, name, revision=revision or None), str):
                return Path(found)
    if config.url:
        file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(config.url).path).name)
        return file if file.is_file() else None
    return None


def check_weights(network: str, file: Path, content: str) -> None:
    """Raises ValueError for a file that holds no weights of the network. content: what tells the file from others."""
    _check(network, file, content, num_classes=2, image_px=_config(network).input_size[-1], in_channels=3)


@lru_cache(maxsize=64)
def _check(network: str, file: Path, content: str | int, **size: int) -> None:
    """The same for networks of a size, once for each."""
    with torch.random.fork_rng(devices=[]):
        _pretrained(network, file, **size)


def _config(network: str) -> Any:
    import timm
    from timm.models import PretrainedCfg

    return timm.get_pretrained_cfg(network) or PretrainedCfg()


def _model(network: str, *, num_classes: int, image_px: int, in_channels: int, **options: Any) -> Any:
    import timm

    if _config(network).fixed_input_size:
        options["img_size"] = image_px
    return timm.create_model(network, num_classes=num_classes, in_chans=in_channels, **options)


def _pretrained(network: str, file: Path, *, num_classes: int, image_px: int, in_channels: int) -> Any:
    """The network with these weights and a new classifier, where the default device is. Raises ValueError."""
    from timm.models import load_state_dict

    config, device = _config(network), torch.get_default_device()
    classifiers = (config.classifier,) if isinstance(config.classifier, str) else config.classifier or ()
    try:
        with torch.device("cpu"):  # not every conversion of weights can do without numbers
            state = load_state_dict(str(file))
            ends = [len(state[f"{name}.weight"]) for name in classifiers if f"{name}.weight" in state]
            # Of others' format, whose names timm translates; else without a classifier.
            for num in ends[:1] or (config.num_classes, 0):
                source = {"state_dict": dict(state), "num_classes": num, "custom_load": False}
                size = {"num_classes": num, "image_px": image_px, "in_channels": in_channels}
                try:
                    model = _model(network, **size, pretrained=True, pretrained_cfg_overlay=source)
                    break
                except RuntimeError as error:
                    trouble = error
            else:
                raise trouble
            model.pretrained_cfg["state_dict"] = None
            model.reset_classifier(num_classes)
    except Exception as error:  # of a damaged file, a foreign one, or one that is no weights at all
        why = " ".join(str(error).split())
        why = why if len(why) <= 160 else f"{why[:160]}..."
        raise ValueError(f"weights: the file's are not those of timm:{network} ({why})") from None
    return model.to(device)


@lru_cache(maxsize=64)
def _stages(network: str, *, num_classes: int, image_px: int, in_channels: int) -> Stages:
    """The network's stages, as timm names them; () where a stage is given more than the map of the one before.

    Raises ValueError if it cannot take such images.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            model = _model(network, num_classes=num_classes, image_px=image_px, in_channels=in_channels)
            image_1CHW = torch.zeros(1, in_channels, image_px, image_px)
            chains = [_chain(model.train(training), image_1CHW) for training in (True, False)]
    except Exception as error:
        if str(error).startswith(OF_ONE_VALUE):
            why = "one image, as the last of an epoch may be, comes to one value, which it cannot normalise"
        else:
            why = " ".join(str(error).split())[:160]
        raise ValueError(f"backbone timm:{network} cannot be trained on these ({why}); take another size") from None
    chain = chains[0]
    if chains[1] != chain:
        return ()
    stages, start = list[tuple[str, ...]](), 0
    for feature in getattr(model, "feature_info", ()):
        name, channels = feature["module"], feature["num_chs"]
        ends = [i for i, (link, _) in enumerate(chain) if link == name or link.startswith(f"{name}.")]
        if not ends or ends[-1] < start or chain[ends[-1]][1][:2] != (1, channels) or len(chain[ends[-1]][1]) != 4:
            continue
        stages.append(tuple(link for link, _ in chain[start : ends[-1] + 1]))
        start = ends[-1] + 1
    return (*stages, tuple(link for link, _ in chain[start:])) if stages and start < len(chain) else ()


def _chain(model: Any, image_1CHW: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """The modules that pass the image on, each given exactly what the one before has made, and the shapes that they
    make; [] if something else happens on the way."""
    calls: list[tuple[str, tuple[Any, ...], Any]] = []

    def note(name: str, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        calls.append((name, (*given, *named), made))

    hooks = [module.register_forward_hook(partial(note, name), with_kwargs=True) for name, module in _links(model)]
    try:
        logits_1X = model(image_1CHW)
    finally:
        for hook in hooks:
            hook.remove()
    passed_on, names = image_1CHW, {name for name, _, _ in calls}
    for _, given, made in calls:
        if len(given) != 1 or given[0] is not passed_on or not isinstance(made, Tensor):
            return []
        passed_on = made
    is_chain = passed_on is logits_1X and len(names) == len(calls)
    return [(name, tuple(made.shape)) for name, _, made in calls] if is_chain else []


def _links(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Its child modules by name, those of a plain sequence one by one."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential:
            yield from _links(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
