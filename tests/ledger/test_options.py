"""Names with options: what is written is what is read, and what cannot be is refused in one line."""

import string
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.networks.models import MODELS
from experiments.networks.variants import parse_variant
from ledger.errors import UserError
from ledger.names import name_and_options
from ledger.options import Value, fields, option_text, spell, split_name, typed


@dataclass(frozen=True)
class Owner:
    """Options of every type."""

    kind: ClassVar[str] = "not an option"
    rate: float = 0.1
    whole: float = 1
    count: int = 3
    smooth: bool = False
    edge: Literal["zeros", "border", "reflection"] = "zeros"
    label: str = "plain"
    derived: int = field(default=7, init=False)


values = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.floats(allow_nan=False, allow_infinity=False),
        "whole": st.floats(allow_nan=False, allow_infinity=False),
        "count": st.integers(-(2**40), 2**40),
        "smooth": st.booleans(),
        "edge": st.sampled_from(["zeros", "border", "reflection"]),
        "label": st.text(string.ascii_letters + string.digits + "-_.", min_size=1),
    },
)


def read(text: str) -> dict[str, Value]:
    name, options = split_name(text, "thing")
    assert name == "owner"
    return {key: typed(Owner, name, key, value) for key, value in options.items()}


@given(values)
def test_what_is_spelled_is_read_again(options):
    defaults = fields(Owner)
    again = read(spell("owner", options, Owner))
    assert again == {key: value for key, value in options.items() if value != defaults[key]}
    assert {key: type(value) for key, value in again.items()} == {key: type(options[key]) for key in again}
    assert all(getattr(Owner(**again), key) == value for key, value in options.items())  # type: ignore[arg-type]


@given(values, st.randoms(use_true_random=False))
def test_there_is_one_spelling(options, random):
    shuffled = list(options.items())
    random.shuffle(shuffled)
    once = spell("owner", dict(shuffled), Owner)
    assert once == spell("owner", options, Owner) == spell("owner", read(once), Owner)


@given(values)
def test_typed_values_stay_as_they_are(options):
    for key, value in options.items():
        found = typed(Owner, "owner", key, value)
        assert found == value and type(found) is type(value)
        assert typed(Owner, "owner", key, found) == found


@given(st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False))
def test_a_variant_s_name_is_read_again_however_large_the_number(number):
    """A plus sign in a number would begin the policy."""
    name = f"stn_affine:blur_px={option_text(number)}"
    assert parse_variant(name).model_options == {"blur_px": number}
    assert parse_variant(str(parse_variant(name))) == parse_variant(name)


def test_options_are_in_the_order_of_the_fields_and_defaults_are_left_out():
    options: dict[str, Value] = {"edge": "border", "count": 3, "smooth": True, "rate": 0.25, "whole": 2.0}
    assert spell("owner", options, Owner) == "owner:rate=0.25:whole=2:smooth=true:edge=border"
    assert spell("owner", {}, Owner) == spell("owner", fields(Owner), Owner) == "owner"


def test_fields_are_the_constructor_s_with_their_types():
    found = fields(Owner)
    assert found == {"rate": 0.1, "whole": 1.0, "count": 3, "smooth": False, "edge": "zeros", "label": "plain"}
    assert isinstance(found["whole"], float)


@pytest.mark.parametrize("model", list(MODELS))
def test_every_model_s_options_are_read_from_text(model):
    for key, default in fields(MODELS[model]).items():
        text = option_text(default)
        found = typed(MODELS[model], model, key, text)
        assert found == default and type(found) is type(default)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("rate", "1", 1.0),
        ("rate", 1, 1.0),
        ("rate", "1e-3", 0.001),
        ("count", "2", 2),
        ("count", 2.0, 2),
        ("count", "2.0", 2),
        ("smooth", "true", True),
        ("smooth", "False", False),
        ("smooth", 1, True),
        ("smooth", 0.0, False),
        ("label", "x", "x"),
    ],
)
def test_values_take_the_option_s_type(key, value, expected):
    found = typed(Owner, "owner", key, value)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("text", ["owner", "owner:a=1", "owner:a=1:b=x=y"])
def test_names_are_split_at_colons_and_first_equals_signs(text):
    name, options = split_name(text, "thing")
    assert ":".join([name, *(f"{key}={value}" for key, value in options.items())]) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("owner:rate", "thing: 'owner:rate': 'rate' is not of the form key=value"),
        ("owner:=1", "thing: 'owner:=1': '=1' is not of the form key=value"),
        ("owner:rate=", "thing: 'owner:rate=': 'rate=' is not of the form key=value"),
        ("owner::rate=1", "thing: 'owner::rate=1': '' is not of the form key=value"),
        ("owner:rate=1:rate=2", "thing: 'owner:rate=1:rate=2' sets 'rate' twice"),
    ],
)
def test_names(text, said):
    with pytest.raises(UserError) as error:
        split_name(text, "thing")
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("rat", 1, "rat: owner has no such hyper-parameter; did you mean 'rate'?"),
        ("kind", "x", "kind: owner has no such hyper-parameter; known: count, edge, label, rate, smooth, whole"),
        ("derived", 1, "derived: owner has no such hyper-parameter; known: "),
        ("edge", "zero", "edge: 'zero' is not one of zeros, border, reflection; did you mean 'zeros'?"),
        ("edge", 1.0, "edge: 1.0 is not one of zeros, border, reflection; known: border, reflection, zeros"),
        ("rate", "fast", "rate: 'fast' is not a number"),
        ("rate", "nan", "rate: 'nan' is not a number"),
        ("rate", float("inf"), "rate: inf is not a number"),
        ("rate", True, "rate: True is not a number"),
        ("count", "2.5", "count: '2.5' is not a whole number"),
        ("count", "inf", "count: 'inf' is not a whole number"),
        ("count", "nan", "count: 'nan' is not a whole number"),
        ("count", True, "count: True is not a whole number"),
        ("smooth", "yes please", "smooth: 'yes please' is not true or false"),
        ("smooth", 2, "smooth: 2 is not true or false"),
    ],
)
def test_values(key, value, said):
    with pytest.raises(UserError) as error:
        typed(Owner, "owner", key, value)
    assert str(error.value).startswith(said)


@given(
    st.text(string.printable.strip(), min_size=1).filter(lambda key: key not in fields(Owner)),
    st.sampled_from(["rate", "count", "smooth", "edge"]),
    st.text(min_size=1),
)
def test_all_are_one_line(unknown, known, value):
    said = []
    for key in (unknown, known):
        try:
            typed(Owner, "owner", key, value)
        except UserError as error:
            said.append((key, str(error)))
    assert said[0][0] == unknown
    for key, line in said:
        assert line.startswith(f"{key}: ") and len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("written", "name", "options"),
    [
        ("none", "none", {}),
        ("R:max_deg=30:corners=disc", "R", {"max_deg": "30", "corners": "disc"}),
        ("timm:resnet18", "timm:resnet18", {}),
        ("timm:resnet18.a1_in1k:frozen=true", "timm:resnet18.a1_in1k", {"frozen": "true"}),
        ("", "", {}),
    ],
)
def test_a_library_s_network_is_no_option_of_the_library(written: str, name: str, options: dict[str, str]) -> None:
    assert name_and_options(written) == (name, options)
