"""What a study's manifest says of its claims and of its images."""

from dataclasses import dataclass

from ledger.names import bare


@dataclass(frozen=True)
class Claim:
    """That a variant differs from another one at a pose.

    interaction: that the two, which have the same policy, differ by more or less than they do without it.
    """

    pose: str
    variant: str
    baseline: str
    interaction: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """Of its arms: the variant, its baseline and, of an interaction, both without their policies."""
        both = self.variant, self.baseline
        return (*both, *map(bare, both)) if self.interaction else both


@dataclass(frozen=True)
class Claims:
    """The family of claims that is judged together, as declared before anything runs.

    Args:
        alpha: probability that any of the claims is made wrongly.
        margin: differences in accuracy below it do not matter; a fraction.
        declared: whether the sweep file lists the family; else each variant is compared with its baseline.
    """

    alpha: float = 0.05
    margin: float = 0.01
    declared: bool = False
    family: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class Overlap:
    """num_test: how many test images are training images too. num_other_label: of these, with another label there.

    Copies within one part are not counted, and neither are images of one colour throughout, which are alike without
    being copies.
    """

    num_test: int
    num_other_label: int
