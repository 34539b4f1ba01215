"""How many seeds a study needs."""

from functools import lru_cache

import numpy as np
from scipy import special, stats

from analysis.statistics.intervals import Floats
from analysis.statistics.sign_flip import MAX_EXACT, smallest_p

POWER = 0.8
"""Probability of deciding a claim that a plan asks for."""

MAX_SEEDS = 100
"""No plan asks for more."""

_FEW, _NUM_SIMULATED = 12, 2_000
_SLACK = 1 + 1e-9
"""2 / 2**n may be alpha / num_claims to the last bit but one."""


def seeds_needed_for_significance(num_claims: int, alpha: float) -> int | None:
    """The fewest seeds with which the sign-flip test can make any of that many claims under Holm; None above MAX_SEEDS.

    With fewer, no result whatever is significant: the smallest p-value is above alpha / num_claims.
    """
    level = alpha / max(num_claims, 1) * _SLACK
    return next((num for num in range(2, MAX_SEEDS + 1) if smallest_p(num) <= level), None)


def seeds_to_decide(mean: float, sd: float, num_claims: int, alpha: float, margin: float) -> int | None:
    """The fewest seeds with which a claim is decided with probability POWER; None above MAX_SEEDS, or where unknown.

    mean, sd: of the paired differences, taken for the truth, and normal; in the unit of margin. Decided is a difference
    that the sign-flip test finds, or an equivalence that two one-sided t tests find, both at alpha / num_claims (Holm's
    first and hardest step). The power of the equivalence test is Bonferroni's lower bound from the noncentral t
    distribution; that of the sign-flip test is simulated, or that of the t test where there are many seeds. Never fewer
    than seeds_needed_for_significance, unless for an equivalence.

    Source: Phillips 1990, Power of the two one-sided tests procedure in bioequivalence, for the t distributions.
    """
    if not (np.isfinite(mean) and np.isfinite(sd)):
        return None
    level = alpha / max(num_claims, 1)
    num_N = np.arange(2, MAX_SEEDS + 1)
    found_N = abs(mean) >= sd * _effect(level) if sd > 0 else np.isfinite(_effect(level)) & (mean != 0)
    decided_N = found_N | (_equivalence_power(abs(mean), sd, level, margin) >= POWER)
    return int(num_N[decided_N.argmax()]) if decided_N.any() else None


@lru_cache(maxsize=64)
def _effect(level: float) -> Floats:
    """For 2 to MAX_SEEDS seeds, the mean in standard deviations that the sign-flip test finds with POWER."""
    num_N = np.arange(2, MAX_SEEDS + 1)
    effect_N = np.full(len(num_N), np.inf)
    for n, num in enumerate(num_N):
        attained = max(level * _SLACK, 0.0)
        if num <= MAX_EXACT:
            ranks = int(
                level * _SLACK * 2.0 ** (num - 1)
            )  # assignments of signs that may be as extreme as the one seen
            if ranks and (num <= _FEW or ranks <= _FEW):
                effect_N[n] = _simulated_effect(int(num), ranks)
                continue
            attained = ranks / 2.0 ** (num - 1)
        if attained >= smallest_p(int(num)):
            t = special.stdtrit(num - 1, 1 - attained / 2)
            effect_N[n] = special.nctdtrinc(num - 1, 1 - POWER, t) / num**0.5
    return effect_N


def _simulated_effect(num: int, ranks: int) -> float:
    """The mean with which at most `ranks` of the 2**(num - 1) assignments are as extreme as the one seen, with POWER.

    To flip a set F of positive-sum normal scores z + effect is as extreme if the sum over F is not above zero: if the
    effect is at most -mean(z over F). So a draw of scores is significant above the ranks-th largest of these, counting
    none flipped as the first; among them only sets of the smallest scores matter where ranks are few.
    """
    z_XS = np.sort(np.random.default_rng(0).standard_normal((_NUM_SIMULATED, num)), axis=-1)[:, :_FEW]
    total_XF, size_F = np.zeros((_NUM_SIMULATED, 1)), np.zeros(1)
    for z_X in z_XS.T:
        total_XF = np.concatenate([total_XF, total_XF + z_X[:, None]], axis=1)
        size_F = np.concatenate([size_F, size_F + 1])
    threshold_XF = -total_XF[:, 1:] / size_F[1:]
    ranks = min(ranks, threshold_XF.shape[1])
    return float(np.quantile(np.partition(threshold_XF, -ranks, axis=1)[:, -ranks], POWER))


def _equivalence_power(mean: float, sd: float, level: float, margin: float) -> Floats:
    """For 2 to MAX_SEEDS seeds."""
    num_N = np.arange(2, MAX_SEEDS + 1)
    if mean >= margin:
        return np.zeros(len(num_N))
    if sd == 0:
        return np.ones(len(num_N))
    t_N = special.stdtrit(num_N - 1, 1 - level)
    power_2N = [stats.nct.sf(t_N, num_N - 1, bound / sd * np.sqrt(num_N)) for bound in (margin - mean, margin + mean)]
    return np.asarray(sum(power_2N) - 1, dtype=np.float64)
