"""Tuning one arm of a study. Optuna proposes, the ledger remembers; the one place that imports optuna.

Waves of a fixed size are told in order, to a sampler seeded from (study seed, arm, wave). So the proposals do not
depend on how many workers ran, which ended first, or what was killed: a restarted sweep asks the same questions again.
As long as a sampler has little to learn from, trials are draws that are spread evenly over each parameter's range, and
the same in every arm for the parameters that arms share, so that no variant wins by a luckier draw.
"""

import itertools
import json
import os
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial, TrialState

from experiments.images.draws import seed_of
from experiments.study.arms import ArmPlan
from experiments.study.search_space import Parameter
from experiments.study.study import Search
from ledger.errors import UserError, remedy
from ledger.options import Value

optuna.logging.set_verbosity(optuna.logging.WARNING)

NUM_COMMON_TRIALS = 10
"""Trials of an arm that must be told before its own results steer the search; Optuna's TPE waits for as many."""
NUM_IMPORTANCE_TRIALS = 20
"""Completed trials below which nothing is said of importance: the best tenth of them must be more than one."""
IMPORTANCE_EVALUATOR = "PED-ANOVA, best tenth of the trials"
"""Optuna's default, and its default share: what tells the best trials from the rest (Watanabe et al. 2023)."""
MAX_UNWRITTEN = 10_000
"""Lines that the journal may lack; they are a few megabytes in memory."""
Setting = dict[str, Value]
"""Hyper-parameters by dotted name."""


@dataclass(frozen=True)
class Score:
    """What a trial came to. val_accuracies: after each whole epoch."""

    status: str
    val_accuracies: Sequence[float]


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's form of a parameter."""
    if parameter.kind == "categorical":
        return CategoricalDistribution(parameter.choices)
    low, high, log, step = parameter.low, parameter.high, parameter.log, parameter.step
    if parameter.kind == "int":
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


def independent_draws(seed: int, name: str) -> Iterator[float]:
    """Uniform numbers in [0, 1) that belong to a parameter."""
    for number in itertools.count(1):
        yield random.Random(seed_of(seed, "common", name, number)).random()


def spread_draws(seed: int, name: str) -> Iterator[float]:
    """Such numbers, the first 2, 4, 8, ... of which have one in each half, quarter, eighth, ... of [0, 1).

    So two trials are never alike by bad luck, however many there are to be. Which part follows which is random: two
    parameters' numbers have nothing to do with each other.
    """
    draw = random.Random(seed_of(seed, "spread", name))
    drawn = [draw.random()]
    yield drawn[0]
    while True:
        num = 2 * len(drawn)
        for part in sorted(set(range(num)) - {int(u * num) for u in drawn}, key=lambda _: draw.random()):
            drawn.append((part + draw.random()) / num)
            yield drawn[-1]


def open_storage(path: Path) -> "Storage":
    """A new journal, which optuna-dashboard opens; an earlier one is deleted, since the ledger has it all.

    Raises UserError where something else is in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in (path, *path.parent.glob(f"{path.name}.lock*")):  # a process that was killed may have held the lock
        try:
            old.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"runs: {old}: cannot be replaced ({error.strerror}); move it away") from None
    return Storage(path)


class Storage(optuna.storages.JournalStorage):
    """All that searches ask and are told, in memory; in the journal as far as it was flushed."""

    def __init__(self, path: Path) -> None:
        journal = _Journal(path)
        super().__init__(journal)
        self.flush = journal.flush


class _Journal(JournalFileBackend):
    """Optuna writes, flushes to disk and reads back each of the dozens of things that are said of a trial.

    Here they are written together, and this process, the only one that writes, reads what it has said from memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        self._path = path
        self._unread: list[dict[str, Any]] = []
        self._unwritten: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._unread += json.loads(json.dumps(logs))  # the storage keeps and changes what it reads
        self._unwritten += logs
        if len(self._unwritten) >= MAX_UNWRITTEN:
            self.flush()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Those since the last time: the storage, which alone asks, goes on where it was."""
        unread, self._unread = self._unread, []
        return iter(unread)

    def flush(self) -> None:
        """Write what was said since. Raises UserError where the file cannot be written; it is as it was before then."""
        if not self._unwritten:
            return
        size = self._path.stat().st_size
        try:
            super().append_logs(self._unwritten)
        except (OSError, RuntimeError) as fault:  # Optuna makes a RuntimeError of a lock that cannot be let go
            error = fault if isinstance(fault, OSError) else fault.__context__
            if not isinstance(error, OSError):
                raise
            with suppress(OSError):
                os.truncate(self._path, size)
                for lock in self._path.parent.glob(f"{self._path.name}.lock*"):
                    lock.unlink()
            raise UserError(f"{self._path}: cannot be written ({error.strerror}){remedy(error)}") from fault
        self._unwritten.clear()


class ArmSearch:
    """The trials of one arm.

    The first tries its defaults, which also stand for what is not tuned. The second tries the plain values, with which
    it is almost the variant that lacks what is tuned, so that tuning may find that it is better to do without.
    name: of the search; part of every wave's seed.
    """

    def __init__(self, name: str, search: Search, arm: ArmPlan, storage: Storage | None = None) -> None:
        self.name, self.search, self.arm = name, search, arm
        self.distributions = {parameter.name: distribution(parameter) for parameter in arm.parameters}
        draws = independent_draws if search.sampler == "random" else spread_draws
        self._draws = {parameter.name: draws(search.seed, parameter.name) for parameter in arm.parameters}
        self.study = optuna.create_study(study_name=name, direction="maximize", storage=storage)
        self.num_proposed = 0
        self._open: list[Trial] = []

    def next_wave(self) -> list[Setting]:
        """The settings of the next trials; none when all are made. The last wave must have been told."""
        if self._open:
            raise ValueError(f"{self.name}: the last wave has not been told")
        first = self.num_proposed
        numbers = range(first, min(first + self.search.wave_size, self.search.trials))
        seed = seed_of(self.search.seed, self.name, "wave", first // self.search.wave_size) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)  # it steers the later waves
        for number in numbers:
            if self.search.sampler == "random" or first < NUM_COMMON_TRIALS:
                self.study.enqueue_trial(self._common_point(number))
            self._open.append(self.study.ask(self.distributions))
        self.num_proposed += len(numbers)
        return [{**self.arm.defaults, **self._setting(trial)} for trial in self._open]

    def _setting(self, trial: Trial) -> Setting:
        """The trial's values in the types of the defaults: 1 and 1.0 make different keys."""
        return {name: type(self.arm.defaults[name])(value) for name, value in trial.params.items()}

    def _common_point(self, number: int) -> Setting:
        if number == 0:
            return {p.name: p.nearest(self.arm.defaults[p.name]) for p in self.arm.parameters}
        point = {p.name: p.at(next(self._draws[p.name])) for p in self.arm.parameters}
        if number == 1:
            plain = self.arm.plain
            point |= {p.name: p.nearest(plain[p.name]) for p in self.arm.parameters if p.name in plain}
        return point

    def tell(self, scores: Sequence[Score], keys: Sequence[str]) -> None:
        """The results of the last wave, in its order. keys: of the runs, for people who browse the Optuna study."""
        for trial, score, key in zip(self._open, scores, keys, strict=True):
            trial.set_user_attr("run", key)
            trial.set_user_attr("status", score.status)
            for epoch, accuracy in enumerate(score.val_accuracies, start=1):
                trial.report(accuracy, epoch)
            if score.status == "completed":
                self.study.tell(trial, score.val_accuracies[-1])
            elif score.status == "failed":  # the machine's fault says nothing of the setting
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                if not score.val_accuracies:
                    trial.report(0.0, 1)  # so that the sampler learns to keep away
                self.study.tell(trial, state=TrialState.PRUNED)
        self._open = []

    def prune_below(self, epochs: int) -> tuple[float, ...]:
        """The bar for each epoch of the coming wave: the median of the completed trials there; 0 lets all pass.

        The bar is set before a wave begins and sees only waves that ended, so it does not depend on who is faster.
        Source of the rule: Golovin et al. 2017, Google Vizier, section 3.2.2; as in Optuna's MedianPruner, save that a
        run is judged by its last epoch there and not by its best so far.
        """
        completed = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if self.search.pruner == "none" or len(completed) < self.search.pruner_warmup_trials:
            return ()
        bars = []
        for epoch in range(1, epochs + 1):
            values = [t.intermediate_values[epoch] for t in completed if epoch in t.intermediate_values]
            bars.append(statistics.median(values) if values and epoch > self.search.pruner_warmup_epochs else 0.0)
        return tuple(bars)


def importances(
    parameters: Sequence[Parameter], settings: Sequence[Mapping[str, Value]], accuracies: Sequence[float]
) -> dict[str, float]:
    """How much each parameter decided whether a trial was among the best tenth; the shares sum to 1.

    parameters: of an arm; constants do not count. settings, accuracies: of its completed trials, in the same order.
    Empty where there is nothing to tell: few trials, one parameter, or all accuracies alike.
    Source: Watanabe, Bansal and Hutter 2023, PED-ANOVA (arXiv:2304.10255), as Optuna has it.
    """
    distributions = {each.name: distribution(each) for each in parameters if len(each.choices) != 1}
    if len(settings) < NUM_IMPORTANCE_TRIALS or len(distributions) < 2 or len(set(accuracies)) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    for setting, accuracy in zip(settings, accuracies, strict=True):
        values = {name: setting[name] for name in distributions}
        study.add_trial(optuna.create_trial(params=values, distributions=distributions, value=accuracy))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: shares[name] for name in distributions}
