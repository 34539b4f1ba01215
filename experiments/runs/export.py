"""Handing a final run over: its weights, a file that torch alone can run, its pictures and a model card."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor
from torch.export import Dim, ExportedProgram

from experiments.networks.variants import hyperparameters, parse_variant
from experiments.runs.trained import Classifier, Trained
from ledger.config import Optim
from ledger.errors import UserError
from ledger.files import to_json, write_atomically
from ledger.ledger import Ledger
from ledger.options import Value, fields
from ledger.wording import count

MAX_DIFFERENCE = 1e-5
"""Largest difference of probabilities between the network and its exported form."""
NUM_CHECKED = 64
SCORES = {
    "test accuracy": "test_accuracy",
    "test accuracy, mean over rotations": "rotation_accuracy",
    "test accuracy, mean over corruptions": "corruption_accuracy",
    "test accuracy, right wherever moved": "worst_of_grid_accuracy",
    "validation accuracy": "val_accuracy",
}
"""By their name on the card: of run.json's `result`."""
COPIED = ("weights.safetensors", "transformer.png", "robustness.json", "run.json")


def plain(text: str) -> str:
    """The text without what Markdown would take for more."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+-.!|~$&" else letter for letter in text)


TEMPLATES = Environment(
    loader=PackageLoader("experiments", "runs"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {"quoted": json.dumps, "plain": plain, "count": count}  # YAML reads JSON's texts


def export(trained: Trained, out: Path) -> list[Path]:
    """Write everything into `out`, which must be empty or hold an earlier export of the same run; returns the files.

    Raises UserError if the folder holds something else, or if the exported model differs from the network.
    """
    check_folder(trained, out)
    program = exported_program(trained)
    out.mkdir(parents=True, exist_ok=True)
    # First what tells of whom the folder is, so that the command can be given again wherever it ends.
    for name, content in (("config.json", to_json(description(trained))), ("README.md", card(trained).encode())):
        write_atomically(out / name, content)
    for name in COPIED:
        if (trained.folder / name).exists():
            shutil.copyfile(trained.folder / name, out / name)
    unchecked = out / "unchecked.pt2"
    try:
        torch.export.save(program, unchecked)
        check_model(trained, unchecked)
        unchecked.replace(out / "model.pt2")
    finally:
        unchecked.unlink(missing_ok=True)
    names = {"config.json", "README.md", "model.pt2", *COPIED}
    return sorted(file for file in out.iterdir() if file.name in names)


def check_folder(trained: Trained, out: Path) -> None:
    """Raises UserError if the folder holds something else than an export of this run."""
    if not out.exists() or not any(out.iterdir()):
        return
    with suppress(OSError, ValueError, LookupError, TypeError):
        if json.loads((out / "config.json").read_text(encoding="utf-8"))["key"] == trained.key:
            return
    raise UserError(f"out: {out} is not empty, and holds no export of {trained.key}; give another folder")


def exported_program(trained: Trained) -> ExportedProgram:
    """The network from pixels to logits, for batches of any size."""
    example_BCHW = torch.rand(4, trained.num_channels, trained.image_px, trained.image_px)
    classifier = Classifier(trained)
    with torch.no_grad():
        classifier(example_BCHW)  # what is computed once, such as grids, must not be computed while tracing
        return torch.export.export(classifier, (example_BCHW,), dynamic_shapes=({0: Dim.DYNAMIC},))


def check_model(trained: Trained, model: Path) -> None:
    """Raises UserError unless the file gives the network's probabilities, in batches of several sizes."""
    generator = torch.Generator().manual_seed(0)
    # Smooth images as well as noise: a transformer looks at what is there.
    shape = (NUM_CHECKED, trained.num_channels, trained.image_px, trained.image_px)
    noise_BCHW = torch.rand(shape, generator=generator)
    smooth_BCHW = torch.nn.functional.avg_pool2d(noise_BCHW, 7, stride=1, padding=3)
    image_BCHW = torch.cat([noise_BCHW, smooth_BCHW])
    program = torch.export.load(model).module()
    with torch.no_grad():
        wanted_BK = Classifier(trained)(image_BCHW).softmax(1)
        parts = image_BCHW.split([1, 2, len(image_BCHW) - 3])
        found_BK: Tensor = torch.cat([program(part_BCHW).softmax(1) for part_BCHW in parts])
    difference = (found_BK - wanted_BK).abs().max().item()
    if not difference <= MAX_DIFFERENCE:
        raise UserError(
            f"export: the exported model differs from the run's network by {difference:.1e}; it was not kept"
        )


def description(trained: Trained) -> dict[str, object]:
    """What a program needs to know of the model, and where it came from."""
    record, colours = trained.record, "RGB" if trained.num_channels == 3 else "grey"
    return {
        "key": trained.key,
        "variant": trained.variant,
        "pose": trained.pose,
        "test_pose": record["config"].get("test_pose", trained.pose),
        "seed": record["config"]["seed"],
        "task": record["task"],
        "image_px": trained.image_px,
        "classes": trained.classes,
        "input": f"pixels in [0, 1], (B, {trained.num_channels}, image_px, image_px), {colours}",
        "output": "logits, (B, number of classes)",
        "result": record["result"],
    }


def loading_code(trained: Trained) -> str:
    """How to run model.pt2 in a program that has torch and pillow, and nothing of this project."""
    return TEMPLATES.get_template("load.py.jinja").render(trained=trained)


def card(trained: Trained) -> str:
    """The model card, in Markdown as Hugging Face's hub reads it."""
    record, config = trained.record, trained.record["config"]
    variant = parse_variant(trained.variant)
    fixed = (f"fixed by the protocol `{record['protocol_hash']}`", config["protocol"])
    return TEMPLATES.get_template("card.md.jinja").render(
        trained=trained,
        start=variant.backbone_options.get("weights", "none"),
        shown="" if variant.policy == "none" else str(variant).partition("+")[2],
        task=record["task"],
        config=config,
        result=dict.fromkeys(SCORES.values()) | record["result"],
        scores=SCORES,
        settings=(*chosen(trained), fixed),
        has_picture=(trained.folder / "transformer.png").exists(),
    )


def chosen(trained: Trained) -> tuple[tuple[str, dict[str, Value]], ...]:
    """The hyper-parameters that the run's study tuned, and others that are not at their defaults, with titles."""
    config, names = trained.record["config"], tuned_names(trained)
    values = {f"{part}.{name}": config[part][name] for part in ("optim", "model", "policy") for name in config[part]}
    defaults = {f"optim.{name}": value for name, value in fields(Optim).items()}
    defaults |= hyperparameters(parse_variant(trained.variant))
    tuned = {name: values[name] for name in names if name in values}
    other = {name: value for name, value in values.items() if name not in tuned and value != defaults.get(name)}
    return ("tuned", tuned), ("set, not tuned", other)


def tuned_names(trained: Trained) -> list[str]:
    """What the search of the run's study could choose; nothing for a run of no study, or of one that is damaged."""
    ledger = Ledger(trained.folder.parents[1], read_only=True)
    for study in ledger.studies():
        with suppress(UserError):
            for arm in ledger.read_study(study)["arms"]:
                if trained.key in arm["finals"]:
                    return [name for name, form in arm.get("space", {}).items() if "value" not in form]
    return []
