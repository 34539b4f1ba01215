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
from experiments.terminal.display import print_place
from ledger.errors import UserError
from ledger.plain_text import as_markup, plain
from ledger.wording import count

STATUS_SOME_UNREAD = 1
MAX_PICTURED = 200


def main(options: Namespace) -> int:
    """Ask a final run's network about images: about all that can be read; stderr names the others.

    Returns 1 where there are such, and 2 where no image can be read.
    """
    console = Console()
    trained = load_trained(existing_ledger(options), options.run)
    found, unread = predictions_of(trained, options.images)
    if not found:
        raise UserError(unread[0] + (f", and {count(len(unread) - 1, 'other')}" if len(unread) > 1 else ""))
    for line in unread:
        print(f"warning: {plain(line)}", file=sys.stderr)
    if options.json:
        print(json.dumps([as_json(each) for each in found], indent=1))
    else:
        accuracy = trained.record["result"]["test_accuracy"]
        what = (
            f"{trained.variant} on {trained.record['task']['label']}, test accuracy {accuracy:.1%}, run {trained.key}"
        )
        console.print(as_markup(what), highlight=False, soft_wrap=True)
        if trained.pose != "upright":
            console.print(
                f"It knows images under the pose {trained.pose}; these are taken as they are.", highlight=False
            )
        console.print(table(found))
        if options.out is None and any(each.look for each in found):
            console.print("--out FILE.png keeps what the transformer looked at.", highlight=False, style="dim")
    if options.out is not None:
        picture(found[:MAX_PICTURED]).save(options.out, "PNG")
        if not options.json:
            what = "above: the images; below: as the network sees them" if found[0].look else "the images"
            of_all = f", of the first {MAX_PICTURED}" if len(found) > MAX_PICTURED else ""
            print_place(console, "Picture", str(options.out), what + of_all)
    return STATUS_SOME_UNREAD if unread else 0


def predictions_of(trained: Trained, paths: list[Path]) -> tuple[list[Prediction], list[str]]:
    """What the network says of each image, and why others cannot be read. A folder stands for the images in it."""
    found: list[Prediction] = []
    unread = []
    for path in paths:
        try:
            for file in images_in(path) if path.is_dir() else [path]:
                try:
                    found += predict(trained, [file])
                except UserError as error:
                    unread.append(str(error))
        except UserError as error:
            unread.append(str(error))
    return found, unread


def images_in(folder: Path) -> list[Path]:
    """The folder's images, also those that are not decoded, to name them. Raises UserError if it has none."""
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() in EXTENSIONS | UNREAD_EXTENSIONS)
    except OSError as error:
        raise UserError(f"folder {str(folder)!r}: cannot be read: {error.strerror}") from None
    if not found:
        raise UserError(f"folder {str(folder)!r}: has no images of its own ({', '.join(sorted(EXTENSIONS))})")
    return found


def table(found: list[Prediction]) -> Table:
    """One row an image: what it is, how sure, and what the transformer does to it."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("Image", overflow="fold")
    shown.add_column("Class")
    shown.add_column("Confidence", justify="right")
    shown.add_column("Next")
    looks = any(each.look for each in found)
    if looks:
        shown.add_column("Looks at")
    for each in found:
        (name, probability), *others = each.classes
        after = f"{others[0][0]} {others[0][1]:.0%}" if others else ""
        cells = [as_markup(str(each.file)), f"[bold]{as_markup(name)}[/]", f"{probability:.1%}", as_markup(after)]
        shown.add_row(*cells, *([in_words(each.look)] if looks else []))
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


def as_json(each: Prediction) -> dict[str, object]:
    look = each.look and {
        "zoom": each.look.zoom,
        "angle_deg": each.look.angle_deg,
        "shift_px": list(each.look.shift_px),
        "stretch": each.look.stretch,
    }
    return {"file": str(each.file), "probabilities": dict(each.classes), "look": look}
