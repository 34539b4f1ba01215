"""The names of variants, their options and their hyper-parameters."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.networks.models import MODELS
from experiments.networks.variants import Variant, build_model, build_policy, hyperparameters, parse_variant
from ledger.errors import UserError
from ledger.options import Value
from tests.support.networks import OPTIONS, build


@given(st.sampled_from(list(MODELS)), st.sampled_from(list(BACKBONES)), st.sampled_from(list(POLICIES)))
def test_a_name_is_read_as_it_is_written(model, backbone, policy):
    variant = Variant(model, backbone, policy)
    assert parse_variant(str(variant)) == variant
    assert parse_variant(f"{model}@{backbone}+{policy}") == variant


@pytest.mark.parametrize("name", [*OPTIONS, "cnn@lenet:width=0.5", "stn_tps@cnn:width=2+rotate:max_deg=90"])
def test_options_are_part_of_a_name(name):
    assert str(parse_variant(name)) == name


def test_defaults_are_not_written():
    assert str(parse_variant("cnn@cnn+none")) == "cnn"
    assert str(parse_variant("stn_affine@lenet+affine")) == "stn_affine@lenet+affine"
    assert parse_variant("cnn") == Variant("cnn", "cnn", "none")
    assert str(parse_variant("stn_affine:padding=zeros:steps=1@cnn:width=1.0+none")) == "stn_affine"


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("stn_affine:heads=4:padding=border", "stn_affine:heads=4:padding=border"),
        ("stn_affine:padding=border:heads=4.0", "stn_affine:heads=4:padding=border"),
        ("stn_affine:anti_alias=True", "stn_affine:anti_alias=true"),
        ("stn_affine:anti_alias=0", "stn_affine"),
        ("stn_affine:loc_lr_factor=1e-1", "stn_affine"),
        ("stn_affine:loc_lr_factor=1.0", "stn_affine:loc_lr_factor=1"),
        ("cnn+rotate:max_deg=30.0", "cnn+rotate:max_deg=30"),
        ("cnn@lenet:width=2.0", "cnn@lenet:width=2"),
        ("stn_affine:start_sd=0.123456789", "stn_affine:start_sd=0.123456789"),
        ("stn_affine:loc_lr_factor=1000000", "stn_affine:loc_lr_factor=1e06"),
        ("cnn@lenet:width=0.123456789", "cnn@lenet:width=0.123456789"),
        ("cnn@cnn:width=2", "cnn@cnn:width=2"),
    ],
)
def test_there_is_one_spelling(name, spelling):
    assert str(parse_variant(name)) == spelling
    assert str(parse_variant(spelling)) == spelling


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stn_afine", "variant: 'stn_afine' has the unknown model 'stn_afine'; did you mean 'stn_affine'?"),
        ("cnn@lenett", "variant: 'cnn@lenett' has the unknown backbone 'lenett'; did you mean 'lenet'?"),
        ("cnn+rotat", "variant: 'cnn+rotat' has the unknown policy 'rotat'; did you mean 'rotate'?"),
        ("rotate", "variant: 'rotate' has the unknown model 'rotate'; it is a policy: write cnn+rotate"),
        ("p4cnn", "'p4cnn' has the unknown model 'p4cnn'; it is a backbone: write cnn@p4cnn"),
        ("cnn+lenet", "has the unknown policy 'lenet'; it is a backbone: write cnn@lenet"),
        ("", "variant: '' has the unknown model ''; known: "),
        ("cnn@", "variant: 'cnn@' has the unknown backbone ''; known: "),
        ("cnn+", "variant: 'cnn+' has the unknown policy ''; known: "),
        ("cnn+rotate@lenet", "has the unknown policy 'rotate@lenet'; did you mean"),
        ("cnn+rotat+affine", "has the unknown policy 'rotat'; did you mean 'rotate'"),
        ("CNN", "has the unknown model 'CNN'; did you mean 'cnn'?"),
        ("stn_affine:steps", "variant: 'stn_affine:steps': 'steps' is not of the form key=value"),
        ("stn_affine:steps=1:steps=2", "variant: 'stn_affine:steps=1:steps=2' sets 'steps' twice"),
        ("stn_affine:step=2", "'stn_affine:step=2': step: stn_affine has no such hyper-parameter; did you mean"),
        ("cnn:steps=2", "variant: 'cnn:steps=2': steps: cnn has no such hyper-parameter; none are known"),
        ("stn_affine:steps=two", "variant: 'stn_affine:steps=two': steps: 'two' is not a whole number"),
        ("cnn@lenet:depth=2", "variant: 'cnn@lenet:depth=2': depth: backbone lenet has no such option; it has width"),
        ("cnn@lenet:width=0", "width: '0' is not a number above 0 and up to 100"),
        ("cnn@lenet:width=nan", "width: 'nan' is not a number above 0 and up to 100"),
        ("cnn+rotate:deg=2", "deg: rotate has no such hyper-parameter; did you mean 'max_deg'?"),
    ],
)
def test_unknown_parts_are_named_with_the_nearest_known_one(name, message):
    with pytest.raises(UserError) as caught:
        parse_variant(name)
    assert message in str(caught.value)
    assert str(caught.value).startswith("variant: ")
    assert "\n" not in str(caught.value)


def test_hyperparameters_are_the_model_s_and_the_policy_s():
    assert hyperparameters(parse_variant("cnn")) == {}
    found = hyperparameters(parse_variant("stn_affine+rotate"))
    assert [name for name in found if name.startswith("policy.")] == ["policy.max_deg"]
    assert found["policy.max_deg"] == 15.0
    assert found["model.loc_lr_factor"] == 0.1
    assert found["model.padding"] == "zeros"
    assert found["model.anti_alias"] is False
    assert (found["model.steps"], type(found["model.steps"])) == (1, int)


def test_what_a_name_fixes_is_no_hyperparameter_unless_its_spelling_leaves_it_out():
    plain = hyperparameters(parse_variant("stn_affine"))
    fixed = hyperparameters(parse_variant("stn_affine:padding=border"))
    assert fixed == {name: value for name, value in plain.items() if name != "model.padding"}
    assert hyperparameters(parse_variant("stn_affine:padding=zeros")) == plain


@pytest.mark.parametrize(("model", "policy"), [*((m, "none") for m in MODELS), *(("cnn", p) for p in POLICIES)])
def test_hyperparameters_can_be_given_back(model, policy):
    variant = Variant(model, "cnn", policy)
    values: dict[str, dict[str, Value]] = {"model": {}, "policy": {}}
    for name, value in hyperparameters(variant).items():
        assert isinstance(value, int | float | str)
        part, _, field = name.partition(".")
        values[part][field] = value
    assert build_model(variant, values["model"]) == build_model(variant, {})
    assert build_policy(variant, values["policy"]) == build_policy(variant, {})


def test_unknown_hyperparameters_are_refused():
    with pytest.raises(UserError) as caught:
        build_model(parse_variant("stn_affine"), {"loc_lr": 1.0})
    assert str(caught.value) == ("model.loc_lr: stn_affine has no such hyper-parameter; did you mean 'loc_lr_factor'?")
    with pytest.raises(UserError, match=r"model\.loc_lr_factor: cnn has no such hyper-parameter; none are known"):
        build_model(parse_variant("cnn"), {"loc_lr_factor": 1.0})
    with pytest.raises(UserError, match=r"policy\.degrees: rotate has no such hyper-parameter; "):
        build_policy(parse_variant("cnn+rotate"), {"degrees": 1.0})


def test_absurd_hyperparameters_are_refused():
    with pytest.raises(UserError, match=r"^policy\.max_scale: 0\.5 is not between 1 and 10$"):
        build_policy(parse_variant("cnn+affine"), {"max_scale": 0.5})


def test_a_hyperparameter_may_not_contradict_the_name():
    variant = parse_variant("stn_affine:padding=border+rotate:max_deg=30")
    with pytest.raises(UserError, match=r"^model\.padding: zeros contradicts the variant's name, which has border$"):
        build_model(variant, {"padding": "zeros"})
    with pytest.raises(UserError, match=r"^policy\.max_deg: 20\.0 contradicts the variant's name, which has 30\.0$"):
        build_policy(variant, {"max_deg": 20})
    assert build_model(variant, {"padding": "border"}) == build_model(variant, {})


FEATURE = "does not go with place=feature"
TURNS = "consistency: images are turned for it, and a transformer of"
SMALL_MAP = "a localisation network needs a feature map of 4 px or more"
ORDINARY = "stages have no ordinary convolution that could be deformed"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stn_tps:steps=2", "steps: maps of this transformation do not compose; take steps=1"),
        ("stn_affine:steps=2:heads=2", "steps: several heads look once; take steps=1 or heads=1"),
        ("stn_affine:loc_lr_factor=-1", "loc_lr_factor: -1.0 is not a number of 0 or more"),
        ("stn_affine:prior=-0.1", "prior: -0.1 is not a number of 0 or more"),
        ("stn_affine:stage=0", "stage: 0 is not between 1 and 16"),
        ("stn_affine:steps=17", "steps: 17 is not between 1 and 16"),
        ("stn_affine:heads=0", "heads: 0 is not between 1 and 16"),
        ("stn_affine:size=0.05", "size: 0.05 is not between 0.1 and 2"),
        ("stn_translation:consistency=1", f"{TURNS} translation cannot turn"),
        ("stn_attention:consistency=1", f"{TURNS} attention cannot turn"),
        ("stn_affine:heads=2:prior=1", "heads: guidance goes with one head only"),
        ("stn_affine:heads=2:consistency=1", "heads: guidance goes with one head only"),
        ("stn_affine:stage=2", "stage: 2 goes with place=feature or place=shared"),
        ("stn_affine:place=feature:heads=2", f"heads: 2 {FEATURE}"),
        ("stn_affine:place=feature:steps=2", f"steps: 2 {FEATURE}"),
        ("stn_affine:place=feature:size=0.5", f"size: 0.5 {FEATURE}"),
        ("stn_affine:place=feature:blur_px=1", f"blur_px: 1.0 {FEATURE}"),
        ("stn_shuffled:place=feature", "place: shuffled maps go with one head that warps the image"),
        ("stn_shuffled:heads=2", "place: shuffled maps go with one head that warps the image"),
        ("stn_random:max_deg=200", "max_deg: 200.0 is not between 0 and 180"),
        ("ti_cnn:max_deg=200", "max_deg: 200.0 is not between 0 and 180"),
        ("ti_cnn:max_scale=0.5", "max_scale: 0.5 is not between 1 and 10"),
        ("ti_cnn:max_shift=2", "max_shift: 2.0 is not between 0 and 1"),
        ("ti_pooling:num_turns=0", "num_turns: 0 is not between 1 and 72"),
        ("deformable:num_stages=0", "num_stages: 0 is not between 1 and 16"),
        ("deformable:offset_lr_factor=-1", "offset_lr_factor: -1.0 is not a number of 0 or more"),
        ("polar:wrap=0.6", "wrap: 0.6 is not between 0 and 0.5"),
        ("polar:loc_lr_factor=-1", "loc_lr_factor: -1.0 is not a number of 0 or more"),
        ("cnn_tta:max_deg=181", "max_deg: 181.0 is not between 0 and 180"),
        ("cnn_tta:num_turns=73", "num_turns: 73 is not between 1 and 72"),
    ],
)
def test_factors_that_do_not_go_together_are_refused(name, message):
    with pytest.raises(UserError) as caught:
        build_model(parse_variant(name), {})
    assert str(caught.value) == f"model.{message}"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_finite_number_is_in_no_range(value):
    for name, bounds in (("start_sd", "a number of 0 or more"), ("size", "between 0.1 and 2")):
        with pytest.raises(ValueError, match=rf"^{name}: {value} is not {bounds}$"):
            MODELS["stn_affine"](**{name: value})


@pytest.mark.parametrize(
    ("name", "image_px", "message"),
    [
        ("stn_affine:place=feature:stage=9", 16, "stage: the backbone has 3 stages, 9 is none of them"),
        ("stn_affine:place=shared:stage=5", 16, "stage: the backbone has 3 stages, 5 is none of them"),
        ("stn_affine:place=feature:stage=5@cnn4", 32, "stage: the backbone has 4 stages, 5 is none of them"),
        ("stn_affine:place=shared:stage=3@lenet", 32, "stage: the backbone has 2 stages, 3 is none of them"),
        ("stn_affine:place=shared:heads=2", 16, "heads: several go with place=input only"),
        ("stn_tps:place=feature:stage=2@lenet", 16, f"{SMALL_MAP}, got 1"),
        ("stn_tps:place=feature:stage=4@cnn4", 16, f"{SMALL_MAP}, got 2"),
        ("stn_affine", 16, "the localisation network needs images of 18 px or more, got 16"),
        ("stn_affine:localisation=paper", 23, "the localisation network 'paper' needs images of 24 px or more, got 23"),
        ("stn_affine:size=0.2", 32, "backbone cnn needs images of 8 px or more, got 6"),
        ("stn_affine:size=0.4@cnn4", 32, "backbone cnn4 needs images of 16 px or more, got 13"),
        ("ti_cnn:layers=inner@fcn", 32, "layers: the backbone has one stage and none before it; take layers=first"),
        ("deformable:num_stages=4", 32, "num_stages: the backbone has 3 stages, 4 cannot be deformed"),
        ("deformable@fcn", 32, "num_stages: the backbone has 1 stages, 2 cannot be deformed"),
        ("deformable@p4cnn", 32, f"the backbone's last 2 {ORDINARY}"),
        ("deformable:num_stages=1@fcn", 32, f"the backbone's last 1 {ORDINARY}"),
    ],
)
def test_factors_that_do_not_go_with_the_images_or_the_backbone_are_refused(name, image_px, message):
    with pytest.raises(UserError) as caught, torch.device("meta"):
        build(name, image_px=image_px)
    assert str(caught.value) == f"{name} on images of {image_px} px: {message}"
