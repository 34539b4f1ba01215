"""What the ablation table says: one row a variant and pose. Knows no file format; formats.py spells it."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis.chance import chance, majority_note
from analysis.flops import count_cell, flop_cell, flop_unit
from analysis.formats import ABSENT, Cell, TextTable, one_line, text_table
from analysis.gap import GAP_COLUMN, Gap, Share, gap_notes, gaps, share_text, shares
from analysis.means import Mean, mean_cell, mean_of
from analysis.records import Study, read_study
from analysis.ripeness import is_ripe, trained_arms
from analysis.run_records import HYPER_PARAMETERS
from analysis.statistics import CONFIDENCE, Floats, mean_interval, paired_difference

Run = dict[Hashable, Any]
"""A row of Study.runs."""

COLUMNS = (
    "Variant",
    "Baseline",
    "Validation %",
    "Test %",
    "n",
    "Difference",
    "Parameters",
    "Training FLOPs",
    "Final runs",
    "Trials",
)
ALIGN = "llrrrrrrll"
_GAP_PLACE = COLUMNS.index("Difference") + 1
"""Where the share of the gap stands in a section that has it."""
STAR = (
    "A * marks an interval that excludes 0, where both were trained long enough for a longer training not to turn it; "
    "it is not corrected for the number of comparisons"
)
_STATUSES = ("completed", "pruned", "diverged", "failed", "missing")


class FinalRun(NamedTuple):
    """A final run that the study lists. seed: None if missing; averaged: whether its test accuracy is in the mean."""

    key: str
    seed: int | None
    status: str
    error: str | None
    averaged: bool


@dataclass(frozen=True)
class Row:
    """A variant at a pose, in numbers; accuracies are fractions.

    difference: of the test accuracy to the baseline's, paired by seed; None where the variant is its own baseline.
    is_ripe: whether both were trained long enough for that to be called a difference (ripeness.py).
    gap_closed: share of the gap between the plain network and unwarped images; None where the pose lacks such an arm.
    test_by_seed, difference_by_seed: what the means are over.
    num_parameters, train_flops: of one final run; None if no run has them. train_flops is for the whole training.
    final_statuses, trial_statuses: counts, in a fixed order. hyper_parameters: of the winner, by dotted name; of the
        final runs where nothing was tuned.
    """

    pose: str
    variant: str
    baseline: str
    val_accuracy: Mean
    test_accuracy: Mean
    difference: Mean | None
    is_ripe: bool
    gap_closed: Share | None
    test_by_seed: dict[int, float]
    difference_by_seed: dict[int, float]
    num_parameters: int | None
    train_flops: float | None
    final_statuses: dict[str, int]
    trial_statuses: dict[str, int]
    finals: tuple[FinalRun, ...]
    winners: tuple[str, ...]
    hyper_parameters: dict[str, Any]


@dataclass(frozen=True)
class Section:
    """The rows of one pose, as text (for people) and as numbers, in the order of the study.

    Its table has the columns of COLUMNS, and the share of the gap where a row has one.
    """

    pose: str
    table: TextTable
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Ablation:
    """The ablation table. It depends on run.json and study.json only: the same runs give the same table.

    title: a line; notes: the sentences under the table, a list of lines.
    hyper_parameters: a small table, one row a variant and pose.
    """

    study: str
    task_label: str
    task_hash: str
    protocol_hash: str
    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    hyper_parameters: TextTable

    @property
    def caption(self) -> str:
        """The notes in one paragraph."""
        return " ".join(self.notes)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all sections."""
        return tuple(row for section in self.sections for row in section.rows)


def ablation(ledger: Path, study: str) -> Ablation:
    """The ablation table of a study. Raises UserError as read_study does."""
    return study_ablation(read_study(ledger, study))


def study_ablation(study: Study) -> Ablation:
    """The ablation table of a study that was read."""
    rows, found = _rows(study)
    poses = list(dict.fromkeys(row.pose for row in rows))
    unit = flop_unit(row.train_flops for row in rows)
    sections = []
    for pose in poses:
        of_pose = tuple(row for row in rows if row.pose == pose)
        sections.append(Section(pose, _table(of_pose, unit), of_pose))
    return Ablation(
        study=study.name,
        task_label=study.task_label,
        task_hash=study.task_hash,
        protocol_hash=study.protocol_hash,
        title=f"Ablation on {study.task_label}",
        sections=tuple(sections),
        notes=tuple(_notes(study, found, poses)),
        hyper_parameters=_hyper_parameter_table(rows, several_poses=len(poses) > 1),
    )


def status_text(statuses: dict[str, int]) -> str:
    """`4 completed, 1 diverged`; empty where nothing is counted."""
    return ", ".join(f"{num} {status}" for status, num in statuses.items())


def _rows(study: Study) -> tuple[list[Row], list[Gap]]:
    arms = study.arms
    trials: list[list[Run]] = [[] for _ in arms]
    finals: list[list[Run]] = [[] for _ in arms]
    for run in study.runs.to_dict("records"):
        (finals if run["stage"] == "final" else trials)[run["arm"]].append(run)
    seeds = sorted({int(run["seed"]) for runs in finals for run in runs if _averaged(run)})
    val_AS = _scores_by_seed(finals, "val_accuracy", seeds)
    test_AS = _scores_by_seed(finals, "test_accuracy", seeds)
    arm_index = {(arm.pose, arm.variant): i for i, arm in enumerate(arms)}
    baseline_A = np.array([arm_index[arm.pose, arm.baseline] for arm in arms])
    pairs_AS = test_AS - test_AS[baseline_A]
    val, test = mean_interval(val_AS), mean_interval(test_AS)
    difference = paired_difference(test_AS, test_AS[baseline_A])
    gap_closed = shares(arms, test_AS)
    trained = trained_arms(study)
    parts = tuple(f"{part}." for part in HYPER_PARAMETERS)
    # Settings that are the same in every run, such as options that nobody tunes, say nothing about a row.
    tunable = sorted(
        (
            str(name)
            for name in study.runs
            if str(name).startswith("optim.")
            or (str(name).startswith(parts) and study.runs[name].dropna().astype(str).nunique() > 1)
        ),
        key=_hyper_parameter_order,
    )
    rows = []
    for i, arm in enumerate(arms):
        own = arm.variant == arm.baseline
        completed = [run for run in finals[i] if run["status"] == "completed"]
        winner = [run for run in trials[i] if run["key"] in arm.winners]
        chosen = [run for run in (winner or finals[i]) if run["status"] != "missing"]
        num_parameters = _first("num_parameters", completed + finals[i] + winner + trials[i])
        rows.append(
            Row(
                pose=arm.pose,
                variant=arm.variant,
                baseline=arm.baseline,
                val_accuracy=mean_of(val, i),
                test_accuracy=mean_of(test, i),
                difference=None if own else mean_of(difference, i),
                is_ripe=not own
                and is_ripe(
                    [trained[i], trained[baseline_A[i]]],
                    float(difference.mean_X[i]),
                    chance(study),
                    study.claims.margin,
                ),
                gap_closed=gap_closed[i],
                test_by_seed=_present(seeds, test_AS[i]),
                difference_by_seed={} if own else _present(seeds, pairs_AS[i]),
                num_parameters=None if num_parameters is None else int(num_parameters),
                train_flops=_first("train_flops", completed),
                final_statuses=_count(finals[i]),
                trial_statuses=_count(trials[i]),
                finals=tuple(map(_final_run, finals[i])),
                winners=arm.winners,
                hyper_parameters={
                    name: value for name in tunable if (value := _common_value(chosen, name)) is not None
                },
            )
        )
    return rows, gaps(arms, test_AS)


def _averaged(run: Run) -> bool:
    return bool(run["status"] == "completed" and not math.isnan(run["test_accuracy"]))


def _scores_by_seed(finals: list[list[Run]], score: str, seeds: list[int]) -> Floats:
    """AS: arms by seeds; NaN where an arm has no averaged run of that seed."""
    column = {seed: i for i, seed in enumerate(seeds)}
    score_AS = np.full((len(finals), len(seeds)), np.nan)
    for row, runs in enumerate(finals):
        for run in runs:
            if _averaged(run):
                score_AS[row, column[int(run["seed"])]] = run[score]
    return score_AS


def _present(seeds: list[int], score_S: Floats) -> dict[int, float]:
    return {seed: score for seed, score in zip(seeds, score_S.tolist(), strict=True) if not math.isnan(score)}


def _first(name: str, runs: list[Run]) -> float | None:
    return next((float(run[name]) for run in runs if not math.isnan(run[name])), None)


def _common_value(runs: list[Run], name: str) -> Any:
    """What the runs have of a hyper-parameter: one value, a range, or all values; None for none."""
    values = list(dict.fromkeys(run[name] for run in runs if not _is_nan(run[name])))
    if len(values) < 2:
        return values[0] if values else None
    if any(isinstance(value, bool | str) for value in values):
        return ", ".join(sorted(map(_value_text, values)))
    return f"{_value_text(min(values))} to {_value_text(max(values))}"


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _count(runs: list[Run]) -> dict[str, int]:
    count = Counter(run["status"] for run in runs)
    order = [*_STATUSES, *sorted(set(count) - set(_STATUSES))]
    return {status: count[status] for status in order if count[status]}


def _final_run(run: Run) -> FinalRun:
    seed = None if math.isnan(run["seed"]) else int(run["seed"])
    error = run["error"] if isinstance(run["error"], str) else None
    return FinalRun(run["key"], seed, run["status"], error, _averaged(run))


def _hyper_parameter_order(name: str) -> tuple[int, str]:
    return HYPER_PARAMETERS.index(name.partition(".")[0]), name


def _table(rows: tuple[Row, ...], flop_unit: tuple[int, str]) -> TextTable:
    columns, align, cells = list(COLUMNS), list(ALIGN), [list(_cells(row, flop_unit)) for row in rows]
    if any(row.gap_closed is not None for row in rows):
        columns.insert(_GAP_PLACE, GAP_COLUMN)
        align.insert(_GAP_PLACE, "r")
        for row, own in zip(rows, cells, strict=True):
            share = row.gap_closed
            own.insert(_GAP_PLACE, Cell(share_text(share, row.test_accuracy.num), share.value if share else None))
    return text_table(columns, "".join(align), cells)


def _cells(row: Row, flop_unit: tuple[int, str]) -> tuple[Cell, ...]:
    difference = Cell(ABSENT)
    if row.difference is not None:
        pairs = ""
        if 0 < row.difference.num < row.test_accuracy.num:
            pairs = f" ({row.difference.num} pair{'s' if row.difference.num > 1 else ''})"
        star = " *" if row.is_ripe and row.difference.excludes_zero else ""
        difference = mean_cell(row.difference, signed=True, mark=pairs + star)
    return (
        Cell(row.variant),
        Cell(ABSENT if row.difference is None else row.baseline),
        mean_cell(row.val_accuracy),
        mean_cell(row.test_accuracy),
        Cell(str(row.test_accuracy.num), row.test_accuracy.num),
        difference,
        count_cell(row.num_parameters),
        flop_cell(row.train_flops, flop_unit),
        Cell(status_text(row.final_statuses) or ABSENT),
        Cell(status_text(row.trial_statuses) or ABSENT),
    )


def _notes(study: Study, found: list[Gap], poses: list[str]) -> Iterator[str]:
    task = [
        study.task_label,
        f"{study.num_classes} classes",
        f"{'poses' if len(poses) > 1 else 'pose'} {', '.join(poses)}",
    ]
    finals = study.runs[study.runs["stage"] == "final"]
    sizes = [finals[f"num_{part}_images"].max() for part in ("train", "val", "test")]
    if not any(map(math.isnan, sizes)):
        train, val, test = (f"{int(size):,}" for size in sizes)
        task.append(f"{train} training, {val} validation and {test} test images")
    if study.epochs is not None:
        task.append(f"{study.epochs} epoch{'s' if study.epochs > 1 else ''}")
    task += [f"budget {study.budget}", f"protocol {study.protocol_hash}"]
    yield one_line(f"Task: {'; '.join(task)}.")
    num_finals = sorted({len(arm.finals) for arm in study.arms})
    yield (
        f"Accuracies are per cent: the mean over seeds ± the half width of its {100 * CONFIDENCE:g} % Student-t "
        f"interval; n counts the completed final runs that the mean is over, of {_range_text(num_finals)} a variant, "
        "each with a seed of its own. Runs that are not completed are counted and never averaged; a single seed has "
        "no interval, and two have none that says anything: a dash."
    )
    yield (
        "Difference: of the test accuracy to the baseline's, in percentage points, paired by seed over the seeds that "
        f"both completed, ± the half width of the {100 * CONFIDENCE:g} % Student-t interval of the paired differences. "
        f"{STAR}."
    )
    yield from majority_note(study)
    yield from gap_notes(found, several_poses=len(poses) > 1)
    num_trials = trials_of_a_tuning(study)
    if num_trials[-1]:
        trials = "trial" if num_trials == [1] else "trials"
        what = "variant and final seed" if study.tuning == "per_seed" else "variant"
        tuned = f"tuned on validation images only, with {_range_text(num_trials)} {trials} for each {what}"
    else:
        tuned = "not tuned"
    yield f"Hyper-parameters were {tuned}. The test set was read once in each final run, and in no other."
    yield "Parameters and training FLOPs are those of one final run."


def trials_of_a_tuning(study: Study) -> list[int]:
    """How many settings a tuning of an arm tried, as far as that differs; without repeats of the best ones."""
    runs = study.runs[study.runs["stage"] == "trial"]
    found = set()
    for i, arm in enumerate(study.arms):
        seeds = runs[runs["arm"] == i].drop_duplicates("key")["seed"]
        num = len(set(arm.trials)) if seeds.isna().any() or seeds.empty else int((seeds == seeds.max()).sum())
        found.add(num)
    return sorted(found)


def _range_text(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def hyper_parameter_names(rows: Iterable[Row]) -> list[str]:
    """Dotted names of the rows' hyper-parameters: the optimiser's first."""
    return sorted({name for row in rows for name in row.hyper_parameters}, key=_hyper_parameter_order)


def _hyper_parameter_table(rows: list[Row], *, several_poses: bool) -> TextTable:
    names = hyper_parameter_names(rows)
    pose = ("Pose",) if several_poses else ()
    cells = []
    for row in rows:
        values = tuple(_value_text(row.hyper_parameters.get(name)) for name in names)
        place = (one_line(row.pose),) if several_poses else ()
        cells.append((one_line(row.variant), *place, *values, _winners_text(row.winners)))
    columns = ("Variant", *pose, *map(one_line, names), "Winning trial")
    align = "l" * (1 + len(pose)) + "r" * len(names) + "l"
    return TextTable(columns, align, tuple(cells))


def _winners_text(winners: tuple[str, ...]) -> str:
    if not winners:
        return ABSENT
    return winners[0] if len(winners) == 1 else f"{len(winners)}, one for each seed"


def _value_text(value: Any) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))
