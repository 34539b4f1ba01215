"""`predict`: ask a final run's network about images."""

from jsonargparse import Namespace
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.commands.ledgers import existing_ledger
from experiments.display import print_place
from experiments.ledger import to_json
from experiments.prediction import Look, Prediction, picture, predict
from experiments.trained import load_trained


def main(options: Namespace) -> int:
    """Ask a final run's network about images."""
    console = Console()
    trained = load_trained(existing_ledger(options), options.run)
    found = predict(trained, options.images)
    if options.json:
        print(to_json([as_json(each) for each in found]).decode(), end="")
    else:
        accuracy = trained.record["result"]["test_accuracy"]
        what = (
            f"{trained.variant} on {trained.record['task']['label']}, test accuracy {accuracy:.1%}, run {trained.key}"
        )
        console.print(escape(what), highlight=False, soft_wrap=True)
        if trained.pose != "upright":
            console.print(
                f"It knows images under the pose {trained.pose}; these are taken as they are.", highlight=False
            )
        console.print(table(found))
        if options.out is None and any(each.look for each in found):
            console.print("--out FILE.png keeps what the transformer looked at.", highlight=False, style="dim")
    if options.out is not None:
        picture(found).save(options.out, "PNG")
        if not options.json:
            print_place(console, "Picture", str(options.out), "above: the images; below: as the network sees them")
    return 0


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
        cells = [escape(str(each.file)), f"[bold]{escape(name)}[/]", f"{probability:.1%}", escape(after)]
        shown.add_row(*cells, *([in_words(each.look)] if looks else []))
    return shown


def in_words(look: Look | None) -> str:
    """Such as `1.2 times larger, turned by 12 degrees, 3 px right, 1 px up`."""
    if look is None:
        return ""
    right, down = look.shift_px
    parts = []
    if abs(look.zoom - 1) >= 0.02:
        parts.append(f"{look.zoom:.2f} times as large")
    if abs(look.angle_deg) >= 1:
        parts.append(f"turned {abs(look.angle_deg):.0f}° {'anticlockwise' if look.angle_deg > 0 else 'clockwise'}")
    for value, positive, negative in ((right, "right", "left"), (down, "down", "up")):
        if abs(value) >= 0.5:
            parts.append(f"{abs(value):.1f} px {positive if value > 0 else negative}")
    return ", ".join(parts) or "the image as it is"


def as_json(each: Prediction) -> dict[str, object]:
    look = each.look and {
        "zoom": each.look.zoom,
        "angle_deg": each.look.angle_deg,
        "shift_px": list(each.look.shift_px),
    }
    return {"file": str(each.file), "probabilities": dict(each.classes), "look": look}
