"""Every number that is measured of a run: its name in the ledger, its form, its unit and meaning, as tables print it.

A new one is written here and where it is computed: what `verify` asks of the files, tables and docs follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["count", "share", "amount", "number", "shares"]
"""count: a whole number of at least 0; share: between 0 and 1; amount: at least 0; number: any; shares: one a class."""


@dataclass(frozen=True)
class Score:
    """A number of runs. meaning: with its unit; heading: of its column; "" where tables for people have none.

    factor, decimals: as it is printed. file: of the run, beside run.json, that it sums up.
    is_later: it came after runs of this format had been made without it, so a run may lack it.
    for_uneven: tables for people have it where some classes have far more images than others.
    """

    name: str
    form: Form
    meaning: str
    heading: str = ""
    factor: float = 1
    decimals: int = 0
    smaller_is_better: bool = False
    file: str = ""
    is_later: bool = False
    for_uneven: bool = False


RESULT = (
    Score("epochs", "count", "whole epochs of training"),
    Score("num_train_images", "count", "images that were trained on"),
    Score("num_val_images", "count", "images that were held out"),
    Score("num_test_images", "count", "test images"),
    Score("num_parameters", "count", "numbers that are trained"),
    Score("train_flops", "amount", "floating-point operations of the whole training"),
    Score(
        "predict_flops", "amount", "floating-point operations of a prediction, of one image when it is tested",
        is_later=True,
    ),
    Score(
        "predict_passes", "amount", "how often the backbone looks at an image, or at copies of it, for a prediction",
        is_later=True,
    ),
    Score("val_accuracy", "share", "accuracy on the validation images"),
    Score("val_loss", "number", "the same as test_loss on the validation images"),
    Score("val_class_accuracy", "shares", "accuracy on the validation images of each class"),
    Score("test_accuracy", "share", "accuracy on the test images", "Test %", 100, 1),
    Score(
        "test_loss", "number",
        "mean negative log-likelihood of the true class in nats: small where the network is sure and right",
        "NLL", 1, 3, smaller_is_better=True,
    ),
    Score("test_class_accuracy", "shares", "accuracy on the test images of each class"),
    Score(
        "test_balanced_accuracy", "share",
        "mean over the classes of the accuracy on their test images: of two, always naming one is right for half",
        "Balanced %", 100, 1, is_later=True, for_uneven=True,
    ),
    Score(
        "test_macro_f1", "share", "mean over the classes of F1, the harmonic mean of precision and recall",
        "Macro F1 %", 100, 1, is_later=True, for_uneven=True,
    ),
    Score(
        "test_auroc", "share",
        "mean over the classes of the area under the ROC curve, of one class against the others: how often a test image"
        " of it is given a larger probability of it than one of another class; chance is a half",
        "AUROC %", 100, 1, is_later=True, for_uneven=True,
    ),
    Score(
        "test_ece", "share",
        "expected calibration error over 15 equal bins: how far its confidence is from how often it is right, on "
        "either side",
        "ECE %", 100, 1, smaller_is_better=True,
    ),
    Score(
        "rotation_accuracy", "share", "mean accuracy over the rotations of the test images",
        "Rotated %", 100, 1, file="robustness.json",
    ),
    Score(
        "corruption_accuracy", "share", "mean accuracy over all corruptions and their severities",
        "Corrupted %", 100, 1, file="robustness.json",
    ),
    Score(
        "worst_of_grid_accuracy", "share",
        "share of the test images that are right wherever they are turned and shifted on a grid",
        "Worst of grid %", 100, 1, file="robustness.json",
    ),
)  # fmt: skip
"""In `result` of run.json, in this order."""

UPRIGHT = Score(
    "test_upright_accuracy",
    "share",
    "accuracy on the test images in the pose of the training images",
    "Upright %",
    100,
    1,
)
"""In `result` of runs with a pose of its own for the test part, beside the others."""

TRANSFORMER = (
    Score("num_images", "count", "images that the others are over"),
    Score(
        "identity_fraction", "share",
        "share of the images that the transformer leaves as they are: no point moves by 1/64 of the image's side",
        "Identity %", 100, 0,
    ),
    Score(
        "out_of_frame", "share", "mean share of the output's points that look outside the image",
        "Out of frame %", 100, 1,
    ),
    Score(
        "condition", "amount",
        "median ratio of the map's longer to its shorter axis: 1 keeps shapes, a large one flattens them",
        "Condition", 1, 2,
    ),
    Score(
        "zoom", "amount",
        "median size of what is seen: above 1 more than the image, which shrinks; below 1 a part of it, enlarged",
        "Zoom", 1, 2,
    ),
    Score("angle_deg", "number", "circular mean of the predicted angle in degrees"),
    Score("angle_sd_deg", "amount", "circular standard deviation of the predicted angle in degrees"),
    Score(
        "spread_px", "amount",
        "how far the maps of single images are from the mean map: 0 where every image gets the same one",
        "Spread px", 1, 2,
    ),
)  # fmt: skip
"""In `result.transformer`, beside its verdict; their columns are `transformer.zoom`, ..."""

TRANSFORMER_POSE = (
    Score(
        "angle_error_deg", "amount",
        "median distance between the predicted and the true angle, after the constant turn that fits best is removed, "
        "since the classifier does not mind which way up all images are",
        "Angle error °", 1, 1,
    ),
    Score(
        "angle_r2", "number",
        "how much of the true angles' variation the predicted ones explain, likewise: 1 is all, 0 none",
        "Angle R²", 1, 2,
    ),
    Score("log_scale_r2", "number", "the same of the logarithm of the scale", "Scale R²", 1, 2),
    Score("shift_r2", "number", "the same of the shift", "Shift R²", 1, 2),
    Score("shift_error_px", "amount", "distance between the predicted and the true shift in pixels"),
)  # fmt: skip
"""In `result.transformer.pose`, where images differ in their true pose; `transformer.angle_r2`, ..."""

COSTS = (
    Score("train_seconds", "amount", "seconds of the training loop"),
    Score("seconds", "amount", "seconds of the whole run"),
    Score("images_per_s", "amount", "training images a second"),
    Score("peak_memory_mib", "amount", "most memory at a time in MiB"),
)
"""In cost.json: what differs between repetitions."""


def robustness_scores(robustness: Mapping[str, Any]) -> dict[str, float]:
    """What robustness.json comes to: means over the rotations, where half a turn to either side counts once, over the
    corruptions, and the worst of the grid."""
    points, corruptions = robustness["points"], robustness["corruptions"]
    turned = [point["accuracy"] for point in points if point["kind"] == "rotation" and point["value"] != 180]
    return {
        "rotation_accuracy": sum(turned) / len(turned),
        "corruption_accuracy": sum(point["accuracy"] for point in corruptions) / len(corruptions),
        "worst_of_grid_accuracy": robustness["worst_of_grid"]["accuracy"],
    }
