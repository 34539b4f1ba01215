"""Compares the numbers that documents state with the results files that they come from; docs/claims.yaml lists them.

A claim quotes a document with `{placeholders}` and says for each where its number is found and how it is printed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from analysis.formats import ABSENT
from analysis.result_queries import SOURCE, Results, Unanswered, check_keys, check_query, inherit
from ledger.errors import UserError, remedy

_CLAIM = {**SOURCE, "in": str, "within": str, "says": str, "each": str, "names": dict}
_NUMBER = r"[−+-]?\d[\d,]*(?:\.\d+)?"
_VALUE = rf"(?:{_NUMBER}(?:\s+±\s+(?:{_NUMBER}|{ABSENT}))?(?:\s+\[{_NUMBER},\s+{_NUMBER}\])?|{ABSENT})"
_MEASURED = re.compile(rf"{_NUMBER}\s+±\s+{_NUMBER}|{_NUMBER}\s+\[{_NUMBER},\s+{_NUMBER}\]")
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Difference:
    """A statement that its results do not bear out.

    line: of the document; None where nothing was found there. says: what the document says, or the claim quotes;
    but: what the results give, or what is wrong with the claim.
    """

    document: str
    line: int | None
    says: str
    but: str

    def __str__(self) -> str:
        place = self.document if self.line is None else f"{self.document}:{self.line}"
        return f"{place}: says {self.says!r}, {self.but}"


@dataclass(frozen=True)
class Verification:
    """num_numbers: how many numbers were compared, by document."""

    num_numbers: Mapping[str, int]
    differences: tuple[Difference, ...]


def verify(claims: Path, root: Path) -> Verification:
    """Compute every number of the claims again and compare. Paths in the claims are relative to `root`.

    Raises UserError for claims that cannot be read or mean nothing, and for a document that cannot be read.
    """
    content = _read_claims(claims)
    results = Results(root, content.get("files", {}))
    documents: dict[str, _Document] = {}
    counts: dict[str, int] = {}
    differences: list[Difference] = []
    for i, claim in enumerate(content["claims"]):
        _check_claim(f"{claims}: claims[{i}]", claim)
        name = claim["in"]
        if name not in documents:
            documents[name] = _Document(name, _read(root / name, str, "UTF-8"))
            counts[name] = 0
        try:
            for says, where in _texts(claim, results):
                counts[name] += len(_queries(claim))
                differences += _compare(documents[name], says, claim, where, results)
        except Unanswered as problem:
            differences.append(Difference(name, None, claim["says"], str(problem)))
    for document in documents.values():
        differences += document.unclaimed()
    return Verification(counts, tuple(sorted(differences, key=lambda found: (found.document, found.line or 0))))


def _read_claims(file: Path) -> dict[str, Any]:
    content = _read(file, yaml.safe_load, "YAML")
    check_keys(f"{file}", content, {"files": dict, "claims": list})
    if not content.get("claims"):
        raise UserError(f"{file}: 'claims' is missing: a list of claims was expected")
    assert isinstance(content, dict)
    return content


def _read(file: Path, parse: Callable[[str], Any], form: str) -> Any:
    try:
        return parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}{remedy(error)}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is not {form}: {' '.join(str(error).split())}") from error


def _check_claim(place: str, claim: Any) -> None:
    for key in ("in", "says"):
        if not isinstance(claim, dict) or key not in claim:
            raise UserError(f"{place}: {key!r} is missing")
    check_keys(place, {key: value for key, value in claim.items() if key in _CLAIM}, _CLAIM)
    names = _queries(claim)
    if not names:
        raise UserError(f"{place}: {claim['says']!r} has no {{placeholder}} for a number")
    for key in claim:
        if key not in _CLAIM and key not in names:
            raise UserError(f"{place}: {key!r} is neither a known key nor a placeholder of {claim['says']!r}")
    for name in names:
        check_query(f"{place}.{name}", claim.get(name, {}))


def _queries(claim: Mapping[str, Any]) -> list[str]:
    """The names of the placeholders that stand for numbers."""
    return [name for name in _PLACEHOLDER.findall(claim["says"]) if name not in ("_", claim.get("each"))]


def _texts(claim: Mapping[str, Any], results: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """The claim's text once, or once for each value of its `each` column; with the condition that this adds."""
    if (column := claim.get("each")) is None:
        yield claim["says"], {}
        return
    names = claim.get("names") or {value: value for value in results.values(claim, column)}
    for name, value in names.items():
        yield claim["says"].replace(f"{{{column}}}", str(name)), {column: value}


def _compare(
    document: "_Document", says: str, claim: Mapping[str, Any], where: Mapping[str, Any], results: Results
) -> Iterator[Difference]:
    matches = document.find(_pattern(says, claim), claim.get("within", ""))
    if not matches:
        yield Difference(document.name, None, says, "as a claim quotes it, but no such text is there")
        return
    if len(matches) > 1:
        lines = ", ".join(str(document.line(match.start())) for match in matches)
        yield Difference(document.name, None, says, f"as a claim quotes it, but in more than one place: lines {lines}")
        return
    (match,) = matches
    document.covered.append(match.span())
    shared = inherit(claim, {"where": where})
    for i, name in enumerate(_queries(claim), 1):
        found, line = " ".join(match[i].split()), document.line(match.start(i))
        try:
            computed = results.text(inherit(shared, claim[name]))
        except Unanswered as problem:
            yield Difference(document.name, line, found, str(problem))
            continue
        if found != computed:
            yield Difference(document.name, line, found, f"but the results give {computed!r}")


def _pattern(says: str, claim: Mapping[str, Any]) -> re.Pattern[str]:
    """What the text looks like whatever its numbers and line ends are; a group for each number."""
    says, parts, end = " ".join(says.split()), list[str](), 0
    for placeholder in _PLACEHOLDER.finditer(says):
        parts.append(_literal(says[end : placeholder.start()]))
        end = placeholder.end()
        if placeholder[1] == "_":
            parts.append("[^|]*?")
            continue
        query = claim[placeholder[1]]
        star = r"(?:\s+\\\*)?" if "star" in query else ""
        parts.append(rf"(?<![\d.,−+-])({_VALUE}(?:{_literal(query.get('unit', ''))})?{star})(?!\d)")
    return re.compile("".join([*parts, _literal(says[end:])]))


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\ ", r"\s+")


@dataclass
class _Document:
    """covered: where claims have found something in the text."""

    name: str
    text: str
    covered: list[tuple[int, int]] = field(default_factory=list)

    def find(self, pattern: re.Pattern[str], within: str) -> list[re.Match[str]]:
        """All places of the pattern in the paragraphs and tables that hold the text `within`."""
        within = " ".join(within.split())
        ends = [gap.start() for gap in re.finditer(r"\n\s*\n", self.text)]
        spans = pairwise([0, *ends, len(self.text)])
        holding = [span for span in spans if within in " ".join(self.text[slice(*span)].split())]
        return [match for span in holding for match in pattern.finditer(self.text, *span)]

    def line(self, position: int) -> int:
        return self.text.count("\n", 0, position) + 1

    def unclaimed(self) -> Iterator[Difference]:
        """Measured numbers, such as `56.4 ± 0.9`, that no claim has found; code is left out."""
        known = [*self.covered, *(match.span() for match in _CODE.finditer(self.text))]
        for match in _MEASURED.finditer(self.text):
            if not any(start <= match.start() < end for start, end in known):
                number = " ".join(match[0].split())
                yield Difference(self.name, self.line(match.start()), number, "but no claim lists it")
