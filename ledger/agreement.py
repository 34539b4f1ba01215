"""Whether the files of a run agree: edits that renewed the checksums do not, and older ledgers have no checksums."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.class_scores import balanced_accuracy, macro_f1
from ledger.config import protocol_hash, run_key
from ledger.scores import UPRIGHT, robustness_scores

STATUSES = ("completed", "pruned", "diverged", "failed")
NUM_BINS = 15
"""Bins of confidence, in the expected calibration error."""
ROUNDING = 1e-6
"""Two sums of the same numbers, in another order, are closer than that."""
LOSS_ROUNDING = 1e-3
"""Relative; of losses from probabilities that were rounded to float32."""


def disagreements(key: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Files and what they contradict, in words.

    key: the name of the run's folder. values: by the files' names, what JSON and tensors hold; run.json among them.
    """
    file, record = "run.json", values["run.json"]
    try:
        yield from ((file, what) for what in _of_record(key, record))
        file = "history.json"
        yield from ((file, what) for what in _of_history(record, values[file]))
        yield from _of_files(record, values.keys())
        for file, check in (("predictions.safetensors", _of_predictions), ("robustness.json", _of_robustness)):
            if file in values:
                yield from ((file, what) for what in check(record, values[file]))
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as fault:
        yield file, f"lacks what it should hold ({type(fault).__name__}: {fault})"


def _of_record(key: str, record: Mapping[str, Any]) -> Iterator[str]:
    config = record["config"]
    if record["key"] != key:
        yield f"is of the run {record['key']}, but its folder is called {key}"
    if run_key(config, record["task"]["content_hash"], record["format"]) != record["key"]:
        yield "its key is not the hash of its configuration and its task"
    if protocol_hash(config["protocol"]) != record["protocol_hash"]:
        yield "its protocol_hash is not that of its protocol"
    if record["status"] not in STATUSES:
        yield f"its status {record['status']!r} is none of {', '.join(STATUSES)}"
    tested = [name for name, value in record["result"].items() if name.startswith("test_") and value is not None]
    if tested and (config["stage"] == "trial" or record["status"] != "completed"):
        yield f"it has {tested[0]}, which a {record['status']} {config['stage']} run has not"


def _of_history(record: Mapping[str, Any], rows: list[dict[str, Any]]) -> Iterator[str]:
    result = record["result"]
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
        yield "its epochs are not 1, 2, 3, ..."
    if record["status"] == "completed" and len(rows) != record["config"]["protocol"]["epochs"]:
        yield f"it has {len(rows)} epochs, and the run was to have {record['config']['protocol']['epochs']}"
    last = {"epochs": rows[-1]["epoch"], **rows[-1]} if rows else {}
    for name in ("epochs", "val_accuracy", "val_loss"):
        if last.get(name) != result[name]:
            yield f"its last {name} is {last.get(name)}, and that of run.json {result[name]}"


def _of_files(record: Mapping[str, Any], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Files that a run of this kind has, or has not."""
    tested = record["result"]["test_accuracy"] is not None
    expected = {"weights.safetensors": tested}
    if record["format"] >= 3:
        expected["predictions.safetensors"] = tested
        expected["robustness.json"] = tested and record["config"]["protocol"]["robustness"] != "none"
    for name, wanted in expected.items():
        if wanted != (name in names):
            yield name, "is gone, and a run like this has one" if wanted else "is there, and a run like this has none"


def _of_predictions(record: Mapping[str, Any], arrays: Mapping[str, Any]) -> Iterator[str]:
    result = record["result"]
    label_N, predicted_N = arrays["label"], arrays["predicted"]
    confidence_N, probability_N = (arrays[name].astype(np.float64) for name in ("confidence", "label_probability"))
    if len({len(array) for array in arrays.values()}) != 1 or len(label_N) != result["num_test_images"]:
        yield f"it is of {len(label_N)} images, and run.json says {result['num_test_images']}"
        return
    num_classes = len(record["task"]["classes"])
    correct_N = label_N == predicted_N
    hits_K, totals_K = (
        np.bincount(labels_N, minlength=num_classes).tolist() for labels_N in (label_N[correct_N], label_N)
    )
    by_class = [hits / total if total else None for hits, total in zip(hits_K, totals_K, strict=True)]
    loss = float(-np.log(probability_N).mean()) if (probability_N > 0).all() else math.nan
    scores = {
        "test_accuracy": int(correct_N.sum()) / len(label_N),
        "test_class_accuracy": by_class,
        "test_ece": calibration_error(confidence_N, correct_N),
    }
    if result.get("test_macro_f1") is not None:  # runs of the same format lacked both, once
        scores["test_balanced_accuracy"] = balanced_accuracy(label_N, predicted_N)
        scores["test_macro_f1"] = macro_f1(label_N, predicted_N)
    yield from _compared(scores, result, ROUNDING)
    yield from _compared({"test_loss": loss}, result, LOSS_ROUNDING)
    if record["config"].get("test_pose"):
        num_right = int((label_N == arrays["upright_predicted"]).sum())
        yield from _compared({UPRIGHT.name: num_right / len(label_N)}, result, ROUNDING)


def calibration_error(confidence_N: npt.NDArray[np.float64], correct_N: npt.NDArray[np.bool_]) -> float:
    """As experiments/runs/evaluation.py has it, without torch."""
    bin_N = np.clip(np.ceil(confidence_N * NUM_BINS).astype(np.int64), 1, NUM_BINS) - 1
    gap_M = np.bincount(bin_N, weights=correct_N - confidence_N, minlength=NUM_BINS)
    return float(np.abs(gap_M).sum() / len(bin_N))


def _of_robustness(record: Mapping[str, Any], robustness: Mapping[str, Any]) -> Iterator[str]:
    yield from _compared(robustness_scores(robustness), record["result"], ROUNDING)


def _compared(scores: Mapping[str, Any], result: Mapping[str, Any], tolerance: float) -> Iterator[str]:
    for name, score in scores.items():
        if not _same(score, result[name], tolerance):
            is_one = isinstance(score, float)
            computed, recorded = (f"{value:.6g}" if is_one else f"{value!r:.80}" for value in (score, result[name]))
            yield f"its {name} comes to {computed}, and run.json says {recorded}"


def _same(computed: Any, recorded: Any, tolerance: float) -> bool:
    """A value that could not be worked out (NaN) agrees with everything."""
    if isinstance(computed, list):
        pairs = zip(computed, recorded, strict=True)
        return all(_same(*pair, tolerance) if None not in pair else pair[0] == pair[1] for pair in pairs)
    return math.isnan(computed) or abs(computed - recorded) <= tolerance * max(1, abs(recorded))
