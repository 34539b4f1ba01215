"""Names of poses and their options: one spelling each, and one line for what cannot be."""

import pytest
import torch

from experiments.images.poses import POSES, parse_pose, posed_px, put_in_pose, spell_pose
from ledger.errors import UserError


def test_have_one_spelling():
    assert spell_pose("R:max_deg=90") == "R"
    assert spell_pose("RTS:corners=zeros:max_deg=30") == "RTS:max_deg=30:corners=zeros"
    assert spell_pose("R:fresh=1:max_deg=30") == "R:max_deg=30:fresh=true"
    assert spell_pose("TC:fresh=false") == "TC"
    assert spell_pose("TC:canvas_px=60:num_pieces=8.0") == "TC:num_pieces=8"
    for pose in POSES:
        assert spell_pose(pose) == pose


def test_that_nobody_knows_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"^pose: 'uprihgt' is unknown; did you mean 'upright'\?$"):
        parse_pose("uprihgt")
    with pytest.raises(UserError, match=r"known: E, P, R, RTS, TC, upright$"):
        parse_pose("xyz")


@pytest.mark.parametrize(
    ("pose", "line"),
    [
        ("R:max_dge=30", r"pose.max_dge: R has .*did you mean 'max_deg'\?"),
        ("P:corner_ds=0.1", r"pose.corner_ds: P has .*did you mean 'corner_sd'\?"),
        ("TC:num_piece=3", r"pose.num_piece: TC has .*did you mean 'num_pieces'\?"),
        ("TC:corners=disc", r"pose.corners: TC has .*known: canvas_px, fresh, num_pieces, piece"),
        ("E:canvas_px=60", r"pose.canvas_px: E has .*known: corners, fresh, sigma"),
        ("upright:max_deg=3", r"pose.max_deg: upright has .*known: corners"),
        ("upright:fresh=true", r"pose.fresh: upright has .*known: corners"),
        ("R:fresh=maybe", r"pose.fresh: 'maybe' is not true or false"),
        ("E:frehs=true", r"pose.frehs: E has .*did you mean 'fresh'\?"),
        ("R:corners=dics", r"pose.corners: 'dics' is not one of disc, zeros, reflect; did you mean 'disc'\?"),
        ("R:max_deg", r"pose: 'R:max_deg': 'max_deg' is not of the form key=value"),
        ("R:max_deg=0", "pose.max_deg: 0.0 is not above 0 and up to 180"),
        ("R:max_deg=181", "pose.max_deg: 181.0 is not above 0 and up to 180"),
        ("R:max_deg=nan", "pose.max_deg: 'nan' is not a number"),
        ("R:canvas_px=-5", "pose.canvas_px: -5 is not 0 or between 8 and 1024"),
        ("R:canvas_px=42.5", "pose.canvas_px: '42.5' is not a whole number"),
        ("RTS:max_deg=-1", "pose.max_deg: -1.0 is not between 0 and 180"),
        ("RTS:min_scale=0", "pose.min_scale: 0.0 is not above 0 and at most max_scale 1.2"),
        ("RTS:min_scale=1.3", "pose.min_scale: 1.3 is not above 0 and at most max_scale 1.2"),
        ("RTS:max_scale=11", "pose.max_scale: 11.0 is not above 0 and up to 10"),
        ("RTS:shift=1.5", "pose.shift: 1.5 is not between 0 and 1"),
        ("RTS:canvas_px=2000", "pose.canvas_px: 2000 is not 0 or between 8 and 1024"),
        ("P:min_scale=0", "pose.min_scale: 0.0 is not above 0 and up to 1"),
        ("P:min_scale=1.1", "pose.min_scale: 1.1 is not above 0 and up to 1"),
        ("P:corner_sd=-0.1", "pose.corner_sd: -0.1 is not between 0 and 0.5"),
        ("P:corner_sd=0.6", "pose.corner_sd: 0.6 is not between 0 and 0.5"),
        ("P:canvas_px=7", "pose.canvas_px: 7 is not 0 or between 8 and 1024"),
        ("E:sigma=0", "pose.sigma: 0.0 is not above 0 and up to 0.1"),
        ("E:sigma=0.2", "pose.sigma: 0.2 is not above 0 and up to 0.1"),
        ("TC:canvas_px=0", "pose.canvas_px: 0 is not between 8 and 1024"),
        ("TC:canvas_px=1025", "pose.canvas_px: 1025 is not between 8 and 1024"),
        ("TC:num_pieces=-1", "pose.num_pieces: -1 is not between 0 and 256"),
        ("TC:num_pieces=300", "pose.num_pieces: 300 is not between 0 and 256"),
        ("TC:piece=0", "pose.piece: 0.0 is not above 0 and up to 1"),
        ("TC:piece=1.5", "pose.piece: 1.5 is not above 0 and up to 1"),
    ],
)
def test_of_options_and_values_that_a_pose_does_not_have_are_refused(pose, line):
    with pytest.raises(UserError, match=f"^{line}$"):
        parse_pose(pose)


@pytest.mark.parametrize("pose", ["TC", "R:canvas_px=60"])
def test_images_larger_than_their_canvas_are_refused(pose):
    assert posed_px(pose, 60) == posed_px(pose, 8) == 60
    line = rf"^pose: '{pose}' has a canvas of 60 px, too small for images of 64 px$"
    with pytest.raises(UserError, match=line):
        posed_px(pose, 64)
    with pytest.raises(UserError, match=line):
        put_in_pose(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.arange(2), pose, part="train")
