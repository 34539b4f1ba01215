"""A pose for the test part alone: training and validation images are upright, and test images are not."""

from collections.abc import Iterable

from baselines.policies import asks_for_poses
from experiments.images.poses import parse_pose, posed_px, spell_pose
from experiments.networks.model import Model
from experiments.networks.variants import Variant, build_policy
from ledger.config import Stage
from ledger.errors import UserError


def spell_test_pose(text: str, pose: str, image_px: int) -> str:
    """The one spelling of a pose of the test part; "" where there is none, and test images are as all others.

    pose: of the others. Raises UserError for what is no pose, or does not go with that one.
    """
    if not text:
        return ""
    try:
        tested, size_px = parse_pose(text), posed_px(text, image_px)
    except UserError as error:
        raise UserError(f"test_{error}") from None
    if not tested.num_draws:
        raise UserError(f"test_pose: {text!r} moves no image; leave test_pose out")
    if tested.fresh:
        raise UserError(f"test_pose: {text!r}: fresh is for images that are trained on; leave it out")
    if parse_pose(pose).num_draws:
        raise UserError(f"test_pose: {text!r} goes with upright training images, and these have the pose {pose!r}")
    if size_px != image_px:
        raise UserError(f"test_pose: {text!r} makes images of {size_px} px, and networks are trained on {image_px} px")
    return spell_pose(text)


def check_learns_no_pose(file: str, variant: Variant, models: Iterable[Model]) -> None:
    """Raises UserError for a variant of a sweep file that learns from the poses of training images, which have none.

    models: with each of the settings that its search may choose. One that is told the pose always, also when it is
    tested, learns nothing from it, and is the ceiling there as anywhere.
    """
    learns = ""
    if any(model.role == "told" for model in models):
        learns = "is told the poses of training images"
    elif asks_for_poses(build_policy(variant, {})):
        learns = "draws the poses of training images anew"
    if learns:
        raise UserError(f"{file}: test_pose: {variant} {learns}, and these are all upright; leave it out")


def pose_of_test(test_pose: str, stage: Stage) -> str:
    """What a run of that stage has of the test part's pose: nothing, if it does not read it."""
    return "" if stage == "trial" else test_pose
