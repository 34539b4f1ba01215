"""The reader of sweep files: YAML 1.2's plain values, and one line for whatever else a file may hold."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.study.sweep_file import MAX_BYTES, Section, read_mapping
from ledger.errors import UserError

BAD_YAML = {
    "empty": ("", "holds no keys"),
    "a list": ("[1, 2]", "holds no keys"),
    "key twice": ("name: a\nname: b\n", "line 2: the key 'name' is there twice"),
    "key twice, deep down": ("search: {trials: 1, trials: 2}", "line 1: the key 'trials' is there twice"),
    "key a list": ("? [1]\n: 2\n", "line 1: the key [1] is not a text"),
    "key a number": ("1: 2\n", "line 1: the key 1 is not a text"),
    "python": ("name: !!python/object/apply:os.getcwd []", "line 1: the tag 'tag:yaml.org,2002:python/"),
    "not the tag's": ("name: !!int ten", "line 1: 'ten' is not a valid int"),
    "open bracket": ("name: [1, 2", "line 1, column 12: "),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
    "bad escape": ('name: "\\U99999999"', "is not YAML in UTF-8: "),
    "holds itself": ("a: &a [*a]\n", "line 1: more than 10000 values or 20 levels"),
    "deep": ("[" * 5000, "is nested deeper than 20 levels"),
    "not so deep": ("a: " + "[" * 30 + "]" * 30, "line 1: more than 10000 values or 20 levels"),
    "a billion": (
        "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)),
        "line 1: more than 10000 values or 20 levels",
    ),
    "a number too long to compute with": (f"a: !!int {'9' * 4000}", "line 1: '99999999"),
    "tab": ("a:\n\tb: 1\n", "line 2, column 1: found character '\\t'"),
    "NUL": ("a: b\0c", "is not YAML in UTF-8: unacceptable character #x0000"),
    "merge": ("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", "line 2: '<<' does not merge keys here; write out the keys"),
    "merge key": ("a: &a {x: 1}\nb: {? !!merge <<: *a}\n", "line 2: the tag 'tag:yaml.org,2002:merge' has no"),
    "binary": ("name: !!binary aGk=", "line 1: the tag 'tag:yaml.org,2002:binary' has no"),
    "own tag": ("name: !me x", "line 1: the tag '!me' has no"),
    "version": ("%YAML 9.0\n---\na: 1", "line 1, column 1: found incompatible YAML document"),
    "alias to nothing": ("a: *b", "line 1, column 4: found undefined alias 'b'"),
    "anchor twice": (
        "a: &x 1\nb: &x 2\nc: {y: 1, y: *x}",
        "line 2, column 4: second occurrence (found duplicate anchor 'x'",
    ),
    "large": ("# " + "x" * MAX_BYTES, f"is larger than {MAX_BYTES} bytes"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_yaml_that_cannot_be_a_study_is_refused(tmp_path: Path, case: str) -> None:
    text, expected = BAD_YAML[case]
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert str(caught.value).isprintable()


PLAIN = {
    "1e-3": 0.001,
    "1E-3": 0.001,
    "1.e-3": 0.001,
    "+.001": 0.001,
    "45_000": 45_000,
    "-7": -7,
    "1.0": 1.0,
    "-.inf": -math.inf,
    "true": True,
    "null": None,
    "~": None,
    "": None,
    "no": "no",
    "on": "on",
    "017": 17.0,
    "1:30": "1:30",
    "2026-11-22": "2026-11-22",
    "'1'": "1",
    "!!str 1": "1",
    "<<": "<<",
}


@pytest.mark.parametrize("written", PLAIN)
def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path, written: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"key: {written}")
    value = read_mapping(path).values["key"]
    assert value == PLAIN[written]
    assert type(value) is type(PLAIN[written])


@pytest.mark.parametrize("written", ["\ufeffa: 1", "a: 1\r\n", "a: 1\r", "---\na: 1\n...\n", "%YAML 1.2\n---\na: 1"])
def test_marks_and_line_ends_of_other_systems(tmp_path: Path, written: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(written.encode())
    assert read_mapping(path).values == {"a": 1}


QUOTED: dict[str, tuple[Callable[[Section], object], str]] = {
    "'1e-3'": (lambda section: section.number("a"), "'1e-3' is not a number; write 1e-3 without quotes"),
    '"12"': (
        lambda section: section.integer("a", 1, 20),
        "'12' is not a whole number between 1 and 20; write 12 without quotes",
    ),
    "1e1": (lambda section: section.integer("a", 1, 20), "10.0 is not a whole number between 1 and 20; write 10"),
    "'true'": (lambda section: section.boolean("a"), "'true' is neither true nor false; write true without quotes"),
    "yes": (lambda section: section.boolean("a"), "'yes' is neither true nor false"),
    "1e18": (lambda section: section.integer("a", 1, 20), "1e+18 is not a whole number between 1 and 20"),
    "1e400": (lambda section: section.number("a"), "inf is not a number"),
    ".nan": (lambda section: section.number("a"), "nan is not a number"),
    '"1e-3 "': (lambda section: section.number("a"), "'1e-3 ' is not a number"),
    '"a\\u202eb"': (
        lambda section: section.text("a"),
        "'a\\u202eb' is not a text, in printable characters, at most 1000",
    ),
    '"a\\u200bb"': (
        lambda section: section.text("a"),
        "'a\\u200bb' is not a text, in printable characters, at most 1000",
    ),
    "[" + "1," * 1001 + "]": (lambda section: section.items("a"), "has 1001 entries; 1000 are the most"),
}


@pytest.mark.parametrize("written", QUOTED)
def test_a_value_of_the_wrong_kind_is_told_how_to_write_it(tmp_path: Path, written: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"a: {written}")
    read, expected = QUOTED[written]
    with pytest.raises(UserError) as caught:
        read(read_mapping(path))
    assert str(caught.value) == f"{path}: a: {expected}"


def test_an_alias_repeats_its_value(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("a: &a {x: [1, 2]}\nb: *a")
    assert read_mapping(path).values == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}}


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read: No such file"):
        read_mapping(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_mapping(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Zürich".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: is not YAML in UTF-8"):
        read_mapping(tmp_path / "latin.yaml")
