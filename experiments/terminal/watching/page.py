"""What can be seen of a ledger, as a page that a browser loads again by itself. It needs no network and no script."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from experiments.terminal.watching.view import Running, View
from ledger.plain_text import plain
from ledger.wording import duration

REFRESH_S = 2
WIDTH, HEIGHT = 300, 72
"""Of a curve's drawing, in its own units."""


def live_page(view: View, when: str, *, is_last: bool) -> str:
    """The page. when: the time of the look. is_last: it is not written again, and so does not load itself again."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    template = environment.from_string(Path(__file__).with_name("live.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        view=view,
        when=when,
        refresh_s=None if is_last else REFRESH_S,
        lines=[curves(run) for run in view.running],
        width=WIDTH,
        height=HEIGHT,
        duration=duration,
    )


def _shown(value: object) -> object:
    return plain(value) if isinstance(value, str) and type(value) is str else value


def curves(run: Running) -> tuple[str, str]:
    """Points of the run's curve and of the others' medians, as SVG has them, over all epochs."""
    values = [*run.curve, *run.medians]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    num_epochs = max(run.epochs, len(run.curve), len(run.medians), 2)

    def points(curve: Sequence[float]) -> str:
        return " ".join(
            f"{4 + (WIDTH - 8) * index / (num_epochs - 1):.1f},"
            f"{HEIGHT - 6 - (HEIGHT - 12) * (value - low) / ((high - low) or 1):.1f}"
            for index, value in enumerate(curve)
        )

    return points(run.curve), points(run.medians)
