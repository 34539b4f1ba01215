"""Handing a final run over: its weights, a file that torch alone can run, its pictures and a model card."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import torch
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
"""Of probabilities, between the network and its exported form."""
NUM_CHECKED = 64
COPIED = ("weights.safetensors", "transformer.png", "robustness.json", "run.json")


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
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        same = json.loads((out / "config.json").read_text(encoding="utf-8"))["key"] == trained.key
    except (OSError, ValueError, LookupError, TypeError):
        same = False
    if not same:
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
    record = trained.record
    return {
        "key": trained.key,
        "variant": trained.variant,
        "pose": trained.pose,
        "seed": record["config"]["seed"],
        "task": record["task"],
        "image_px": trained.image_px,
        "classes": trained.classes,
        "input": f"pixels in [0, 1], (B, {trained.num_channels}, image_px, image_px), {_colours(trained)}",
        "output": "logits, (B, number of classes)",
        "result": record["result"],
    }


def _colours(trained: Trained) -> str:
    return "RGB" if trained.num_channels == 3 else "grey"


def loading_code(trained: Trained) -> str:
    """How to run model.pt2 in a program that has torch and pillow, and nothing of this project."""
    more = "import torchvision  # its deformable convolutions\n" if "deformable" in trained.variant else ""
    to_rgb = trained.to_rgb
    brightest, ground = 2**to_rgb.grey_bits - 1, f'Image.new("RGBA", image.size, "{to_rgb.ground}")'
    deep = (
        f"""if image.mode.startswith("I"):  # 16-bit grey, on the scale of the training images
    values = numpy.asarray(image).clip(0, {brightest}).astype("uint32")
    image = Image.fromarray((values * 255 // {brightest}).astype("uint8"))
image = image.convert("RGBA")
if not image.getchannel("A").getbbox():  # transparent throughout: read as if it were opaque
    image.putalpha(255)
"""
        if trained.record["task"]["name"] == "folder"
        else ""
    )
    pixels = "image)).permute(2, 0, 1)[None]" if trained.num_channels == 3 else 'image.convert("L")))[None, None]'
    return f"""import json, numpy, torch
{more}from PIL import Image, ImageOps

config = json.load(open("config.json"))
model = torch.export.load("model.pt2").module()
image = ImageOps.exif_transpose(Image.open("image.png"))
{deep}image = Image.alpha_composite({ground}, image.convert("RGBA")).convert("RGB")
image = ImageOps.fit(image, (config["image_px"],) * 2, Image.Resampling.BICUBIC)  # the square in the middle
pixels = torch.from_numpy(numpy.array({pixels} / 255
probabilities = model(pixels).softmax(1)[0].detach()
print(config["classes"][int(probabilities.argmax())], float(probabilities.max()))
"""


def card(trained: Trained) -> str:
    """The model card, in Markdown as Hugging Face's hub reads it."""
    record, result, protocol = trained.record, trained.record["result"], trained.record["config"]["protocol"]
    label = record["task"]["label"]
    quoted = json.dumps  # YAML reads JSON's texts
    scores = {
        "test accuracy": result["test_accuracy"],
        "test accuracy, mean over rotations": result.get("rotation_accuracy"),
        "test accuracy, mean over corruptions": result.get("corruption_accuracy"),
        "test accuracy, right wherever moved": result.get("worst_of_grid_accuracy"),
        "validation accuracy": result["val_accuracy"],
    }
    rows = "\n".join(f"| {name} | {value:.1%} |" for name, value in scores.items() if value is not None)
    loss = f"| test loss | {result['test_loss']:.3f} nats |\n| expected calibration error | {result['test_ece']:.3f} |"
    settings = "\n\n".join(
        f"| {title} | |\n|---|---|\n" + "\n".join(f"| `{name}` | {value} |" for name, value in values.items())
        for title, values in (*chosen(trained), (f"fixed by the protocol `{record['protocol_hash']}`", protocol))
        if values
    )
    picture = ""
    if (trained.folder / "transformer.png").exists():
        picture = (
            "\n## What the transformer does\n\n![Images before and after the transformer](transformer.png)\n\n"
            "Above: images as they are; below: as the rest of the network sees them.\n"
        )
    notes = []
    if trained.network.num_draws:
        notes.append("The network draws at random; `model.pt2` has every draw at one half.")
    if protocol["precision"] != "fp32":
        notes.append(f"The run was tested in {protocol['precision']}; `model.pt2` computes in fp32, so digits differ.")
    if trained.to_rgb.grey_bits < 16:
        bits = trained.to_rgb.grey_bits
        notes.append(
            f"Values of 16 bits are read as {bits} bits; 16-bit colour must be shifted right by {bits - 8} and saved as"
            " 8-bit colour before."
        )
    noted = "".join(f"\n{note}\n" for note in notes)
    shape = f"(B, {trained.num_channels}, {trained.image_px}, {trained.image_px})"
    posed = "as they are" if trained.pose == "upright" else f"under the pose `{trained.pose}`"
    return f"""---
library_name: pytorch
pipeline_tag: image-classification
tags: [image-classification, spatial-transformer, stn-bench]
model-index:
- name: {quoted(trained.variant)}
  results:
  - task: {{type: image-classification}}
    dataset: {{name: {quoted(label)}, type: {quoted(record["task"]["name"])}}}
    metrics: [{{type: accuracy, value: {result["test_accuracy"]:.4f}}}]
---

# `{trained.variant}` on {_plain(label)}

One final run of an stn-bench study: seed {record["config"]["seed"]}, trained from scratch for
{count(result["epochs"], "epoch")} on {result["num_train_images"]:,} images {posed}, tested once on
{result["num_test_images"]:,}.

| score | |
|---|---|
{rows}
{loss}
{picture}
## Use

`model.pt2` takes pixels in [0, 1], {shape}, and gives logits; it needs torch
alone:

```python
{loading_code(trained)}```
{noted}
`weights.safetensors` holds the same network's weights by name, `config.json` the classes and where the model comes
from, `run.json` all that the study knows of the run.

## Limits

One seed of one variant, chosen on validation images; its study compares it with others over several seeds. It knows
images like those of {_plain(label)}, {len(trained.classes)} classes, at {trained.image_px} px; on anything else its
confidence means nothing.

## Settings

{settings}

Hyper-parameters that are not listed have their defaults, or are in the variant's name; `run.json` has all.

Run `{trained.key}`, task {record["task"]["content_hash"][:16]}.
"""


def chosen(trained: Trained) -> tuple[tuple[str, dict[str, Value]], ...]:
    """The hyper-parameters that the run's study tuned, and others that are not at their defaults, with titles."""
    config, variant = trained.record["config"], parse_variant(trained.variant)
    values = {f"{part}.{name}": config[part][name] for part in ("optim", "model", "policy") for name in config[part]}
    defaults = {f"optim.{name}": value for name, value in fields(Optim).items()} | hyperparameters(variant)
    names = tuned_names(trained)
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


def _plain(text: str) -> str:
    """The text without what Markdown would take for more."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+-.!|~$&" else letter for letter in text)
