"""A table as columns by rows: what a row shows people under each heading, and what it tells programs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from analysis.formats import Cell, Section, Shown, Table, TextTable, Value, text_table
from analysis.means import Mean, mean_cell
from analysis.records import Arm, Study

Row = TypeVar("Row", contravariant=True)


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column for people, for programs, or for both.

    heading: "" where people have no such column. names: of its values for programs, one or more, with spaces between;
    "" where programs have none. align: `l` or `r`. cell: what a row shows. value: what it tells programs, as many
    values as names; without it the value of the cell.
    """

    heading: str = ""
    names: str | tuple[str, ...] = ""
    align: str = "r"
    cell: Callable[[Row], Shown] = lambda row: None
    value: Callable[[Row], Value | tuple[Value, ...]] | None = None

    @property
    def all_names(self) -> Sequence[str]:
        return self.names.split() if isinstance(self.names, str) else self.names

    def values(self, row: Row) -> tuple[Value, ...]:
        """What the row tells programs."""
        if self.value is None:
            shown = self.cell(row)
            return (shown.value if isinstance(shown, Cell) else shown,)
        found = self.value(row)
        return found if isinstance(found, tuple) else (found,)


class Compared(Protocol):
    """What most tables have in a row: something at a pose. keys: of the runs that it is over."""

    @property
    def pose(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]: ...


class Named(Compared, Protocol):
    """A variant at a pose."""

    @property
    def variant(self) -> str: ...


POSE: Column[Compared] = Column("", "pose", value=lambda row: row.pose)
VARIANT: Column[Named] = Column("Variant", "variant", "l", lambda row: row.variant)
RUN_KEYS: Column[Compared] = Column("", "run_keys", value=lambda row: " ".join(row.keys))
"""The last column that programs have, in every table."""

_Row = TypeVar("_Row")
_Compared = TypeVar("_Compared", bound=Compared)


def mean_column(
    heading: str,
    name: str,
    mean: Callable[[_Row], Mean | None],
    *,
    num: str = "",
    signed: bool = False,
    mark: Callable[[_Row], str] = lambda row: "",
) -> Column[_Row]:
    """A mean in per cent. signed: of a difference. num: the name of its count. mark: behind it."""

    def cell(row: _Row) -> Cell | None:
        found = mean(row)
        return None if found is None else mean_cell(found, signed=signed, mark=mark(row))

    return Column(heading, mean_names(name, num), "r", cell, lambda row: mean(row) or (None,) * 3)


def star(difference: Mean | None, *, is_ripe: bool = True) -> str:
    """Marks a difference whose interval excludes 0."""
    return " *" if difference and is_ripe and difference.excludes_zero else ""


def mean_names(name: str, num: str = "") -> str:
    """The names of a mean's three values. num: of the last."""
    return f"{name} {name}_half_width {num or f'{name}_num_pairs'}"


def text_of(columns: Sequence[Column[_Row]], rows: Iterable[_Row]) -> TextTable:
    """The rows as people read them."""
    shown = [column for column in columns if column.heading]
    align = "".join(column.align for column in shown)
    return text_table(
        [column.heading for column in shown], align, ([column.cell(row) for column in shown] for row in rows)
    )


def section(heading: str, columns: Sequence[Column[_Compared]], rows: Sequence[_Compared]) -> Section:
    """The rows under a heading, with the runs behind each."""
    return Section(heading, text_of(columns, rows), tuple(row.keys for row in rows))


def by_pose(rows: Iterable[_Compared]) -> dict[str, list[_Compared]]:
    """The rows of each pose, in their order."""
    found: dict[str, list[_Compared]] = {}
    for row in rows:
        found.setdefault(row.pose, []).append(row)
    return found


def pose_heading(pose: str, arms: Sequence[Arm], what: str = "") -> str:
    """A section's heading, such as `Pose R: accuracy`; `Accuracy` where the study has one pose."""
    if len({arm.pose for arm in arms}) == 1:
        return what[:1].upper() + what[1:]
    return f"Pose {pose}: {what}" if what else f"Pose {pose}"


def arms_by_pose(arms: Sequence[Arm]) -> dict[str, list[int]]:
    """Indices of the arms at each pose, in the order of the study."""
    by_pose: dict[str, list[int]] = {}
    for i, arm in enumerate(arms):
        by_pose.setdefault(arm.pose, []).append(i)
    return by_pose


def pose_sections(study: Study, columns: Sequence[Column[_Compared]], rows: Iterable[_Compared]) -> list[Section]:
    """A section a pose."""
    return [section(pose_heading(pose, study.arms), columns, of_pose) for pose, of_pose in by_pose(rows).items()]


@dataclass(frozen=True)
class Draft(Generic[_Row]):
    """What a table is made of. sections: for people. columns, rows: for programs."""

    sections: Iterable[Section]
    notes: Iterable[str]
    columns: Iterable[Column[_Row]]
    rows: Iterable[_Row]

    def table(self, study: Study, name: str, title: str) -> Table:
        """title: without the task that the table is on."""
        about: Column[Any] = Column("", "study", value=lambda row: study.name)
        whole = replace(self, columns=[about, *self.columns])
        return whole.named(study.name, name, f"{title} on {study.task_label}")

    def named(self, study: str, name: str, title: str) -> Table:
        """The same, whatever it is of. study: or studies."""
        told = [column for column in self.columns if column.names]
        names = tuple(each for column in told for each in column.all_names)
        values = tuple(tuple(value for column in told for value in column.values(row)) for row in self.rows)
        return Table(study, name, title, tuple(self.sections), tuple(self.notes), names, values)
