"""`predict`: ask a final run's network about images."""

import json
import sys
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from experiments.images.tasks.image_files.walk import EXTENSIONS, UNREAD_EXTENSIONS
from experiments.runs.prediction import Look, Prediction, picture, predict
from experiments.runs.trained import Trained, load_trained
from experiments.terminal.commands.ledgers import existing_ledger
from experiments.terminal.display import print_place, say_to
from ledger.errors import UserError
from ledger.plain_text import as_markup, plain
from ledger.wording import count

STATUS_SOME_UNREAD = 1
MAX_PICTURED = 200


def main(options: Namespace) -> int:
    """Ask about all images that can be read; stderr names the others. Returns 1 where there are such."""
    console = Console()
    trained = load_trained(existing_ledger(options), options.run)
    predictions, unread = predictions_of(trained, options.images)
    if not predictions:
        raise UserError(unread[0] + (f", and {count(len(unread) - 1, 'other')}" if len(unread) > 1 else ""))
    for line in unread:
        print(f"warning: {plain(line)}", file=sys.stderr)
    has_looks = any(prediction.look for prediction in predictions)
    if options.json:
        print(json.dumps([as_json(prediction) for prediction in predictions], indent=1))
    else:
        label, accuracy = trained.record["task"]["label"], trained.record["result"]["test_accuracy"]
        under = f" under {test_pose}" if (test_pose := trained.record["config"].get("test_pose")) else ""
        say_to(console)(f"{trained.variant} on {label}, test accuracy {accuracy:.1%}{under}, run {trained.key}")
        if trained.pose != "upright":
            note = f"It knows images under the pose {trained.pose}; these are taken as they are."
            console.print(note, highlight=False)
        console.print(table(predictions, has_looks))
        if options.out is None and has_looks:
            console.print("--out FILE.png keeps what the transformer looked at.", highlight=False, style="dim")
    if options.out is not None:
        picture(predictions[:MAX_PICTURED]).save(options.out, "PNG")
        if not options.json:
            what = "above: the images; below: as the network sees them" if predictions[0].look else "the images"
            of_all = f", of the first {MAX_PICTURED}" if len(predictions) > MAX_PICTURED else ""
            print_place(console, "Picture", str(options.out), what + of_all)
    return STATUS_SOME_UNREAD if unread else 0


def predictions_of(trained: Trained, paths: list[Path]) -> tuple[list[Prediction], list[str]]:
    """What the network says of each image, and why others cannot be read. A folder stands for the images in it."""
    predictions: list[Prediction] = []
    unread = []
    for path in paths:
        try:
            for file in images_in(path) if path.is_dir() else [path]:
                try:
                    predictions += predict(trained, [file])
                except UserError as error:
                    unread.append(str(error))
        except UserError as error:
            unread.append(str(error))
    return predictions, unread


def images_in(folder: Path) -> list[Path]:
    """The folder's images, also those that are not decoded, to name them. Raises UserError if it has none."""
    try:
        images = sorted(file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS | UNREAD_EXTENSIONS)
    except OSError as error:
        raise UserError(f"folder {str(folder)!r}: cannot be read: {error.strerror}") from None
    if not images:
        raise UserError(f"folder {str(folder)!r}: has no images of its own ({', '.join(sorted(EXTENSIONS))})")
    return images


def table(predictions: list[Prediction], has_looks: bool) -> Table:
    """One row an image: what it is, how sure, and what the transformer does to it."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("Image", overflow="fold")
    shown.add_column("Class")
    shown.add_column("Confidence", justify="right")
    for heading in ["Next", "Looks at"] if has_looks else ["Next"]:
        shown.add_column(heading)
    for prediction in predictions:
        (name, probability), *others = prediction.classes
        after = f"{others[0][0]} {others[0][1]:.0%}" if others else ""
        cells = [as_markup(prediction.file), f"[bold]{as_markup(name)}[/]", f"{probability:.1%}", as_markup(after)]
        shown.add_row(*cells, *([in_words(prediction.look)] if has_looks else []))
    return shown


def in_words(look: Look | None) -> str:
    """Such as `1.20 times as large, turned 12° clockwise, 3.0 px right, 1.0 px up`."""
    if look is None:
        return ""
    right, down = look.shift_px
    parts = []
    if abs(look.zoom - 1) >= 0.02:
        parts.append(f"{look.zoom:.2f} times as large")
    if abs(look.angle_deg) >= 1:
        parts.append(f"turned {abs(look.angle_deg):.0f}° {'anticlockwise' if look.angle_deg > 0 else 'clockwise'}")
    if look.stretch >= 1.02:
        parts.append(f"sheared or stretched {look.stretch:.2f} to 1")
    for value, positive, negative in ((right, "right", "left"), (down, "down", "up")):
        if abs(value) >= 0.5:
            parts.append(f"{abs(value):.1f} px {positive if value > 0 else negative}")
    return ", ".join(parts) or "the image as it is"


def as_json(prediction: Prediction) -> dict[str, object]:
    look = prediction.look and {
        name: getattr(prediction.look, name) for name in ("zoom", "angle_deg", "shift_px", "stretch")
    }
    return {"file": str(prediction.file), "probabilities": dict(prediction.classes), "look": look}
