"""Carrying out a study: tune every arm in waves, train the winners again with fresh seeds, at each rung of the ladder.

One supervisor owns the study; workers only train. Everything it knows comes from the plan and the ledger, so a
killed sweep, started again, does what was left to do and nothing else.

There may be ten thousand runs, so what is done when one of them ends does not depend on how many there are. The
manifest lists all of them and is written whole: where that takes long, the arms that moved on wait for each other, are
listed together, and their runs begin then. So each run that was ever begun is listed, as `Ledger.sweep_up` relies on.
"""

import dataclasses
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import cycle
from typing import Any

from experiments.images.draws import seed_of
from experiments.machine.pace import Pace
from experiments.runs.run import Job, failed_run_files
from experiments.study.arms import ArmPlan, make_run_config, words_of_pose
from experiments.study.overrides import recorded_group
from experiments.study.plan import Plan
from experiments.study.search import ArmSearch, Score, Setting, open_storage
from experiments.study.search_space import Parameter
from experiments.study.settled import FOUND
from experiments.study.shown import images_record
from experiments.study.tuning import Tuning
from experiments.sweep.executors import Executor, WorkerDied
from ledger.config import RESULT_FORMAT, Protocol, Stage, protocol_hash, protocol_record, run_key
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import keys_of
from ledger.private_text import from_here

TUNING_SEED = 0
"""Seed of the first trials where tuning is for all final runs."""
POLL_S = 0.25
MANIFEST_SHARE = 0.1
"""The share of the supervisor's time that writing the manifest may take."""


@dataclass
class Arm:
    """How far one arm is.

    tunings: one for all final runs, or one for each of them.
    finals: keys at the study's own size, in the order of seeds; rungs: the same at each smaller size.
    final_jobs: all of these.
    """

    plan: ArmPlan
    tunings: list[Tuning]
    finals: list[str] = field(default_factory=list)
    rungs: list[list[str]] = field(default_factory=list)
    final_jobs: list[Job] = field(default_factory=list)

    @property
    def trials(self) -> list[str]:
        """Keys, tuning by tuning, in the order they were proposed."""
        return [trial.key for tuning in self.tunings for trial in tuning.trials]

    @property
    def keys(self) -> list[str]:
        """Keys of all runs of the arm that are known so far, trials before final runs."""
        return keys_of({"trials": self.trials, "finals": self.finals, "rungs": self.rungs})

    @property
    def jobs(self) -> list[Job]:
        """Those that are being made, and those that were made with them."""
        return self.final_jobs or [job for tuning in self.tunings for job in tuning.jobs]

    @property
    def winners(self) -> list[str | None]:
        """The key of each tuning's winner; none until all of them are done."""
        return [tuning.winner for tuning in self.tunings] if self.finals else []


class Sweep:
    """A study under way.

    store: whether to write the study's manifest and Optuna journal; a mere look writes nothing. num_finished: as many
    as `finished` names.
    """

    def __init__(self, plan: Plan, ledger: Ledger, *, store: bool) -> None:
        self.plan, self.ledger, self.store = plan, ledger, store
        self._storage = open_storage(ledger.root / "studies" / plan.name / "optuna.log") if store else None
        self.arms = [Arm(arm, self._tunings(arm)) for arm in plan.arms]
        self.num_finished = 0
        self._made: set[str] = set()
        self._asked: set[str] = set()
        self._futures: dict[Future[str], tuple[Job, Arm]] = {}
        self._ended: queue.SimpleQueue[Future[str]] = queue.SimpleQueue()
        self._manifest_pace = Pace(MANIFEST_SHARE)

    def _tunings(self, arm: ArmPlan) -> list[Tuning]:
        """Seeds of trials are 0 and below, those of final runs 1 and above: -3 tunes for 3."""
        study = self.plan.study
        if study.search.tuning == "once":
            search = ArmSearch(arm.name, study.search, arm, self._storage)
            return [Tuning(search, TUNING_SEED, repeats=True)]
        tunings = []
        for seed in self._seeds():
            of_seed = replace(study.search, seed=seed_of(study.search.seed, "tuning", seed) % 2**31)
            search = ArmSearch(f"{arm.name} seed {seed}", of_seed, arm, self._storage)
            tunings.append(Tuning(search, -seed, repeats=False))
        return tunings

    def _seeds(self) -> range:
        """Seeds of final runs."""
        first = self.plan.study.first_seed
        return range(first, first + self.plan.study.final_seeds)

    def finished(self) -> list[str]:
        """Keys of the study's runs that are in the ledger, trials before final runs in each arm.

        One that a worker has just put there counts when its end has been reported.
        """
        return [key for arm in self.arms for key in arm.keys if key in self._made]

    def replay(self) -> None:
        """Go through everything that the ledger already answers, without training or writing."""
        for arm in self.arms:
            self._advance(arm)

    def run(
        self,
        executor: Executor,
        *,
        on_finish: Callable[[Job], None],
        on_tick: Callable[[], None],
        on_submit: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """Make the runs that are missing. Raises UserError for a run that cannot be built.

        on_finish: called with each run's job when it is in the ledger. on_tick: called after that, and a few times a
        second. on_submit: called with each run's job before a worker can begin it.
        """
        self.write_manifest()
        self._submit(executor, self.arms, on_submit)
        moved: list[Arm] = []
        while self._futures or moved:
            if ended := self._wait(min(POLL_S, self._manifest_pace.pause_s()) if moved else POLL_S):
                job, arm = self._finish(ended)
                on_finish(job)
                if self._advance(arm):
                    moved.append(arm)
            if moved and not self._manifest_pace.pause_s():
                self.write_manifest()
                self._submit(executor, moved, on_submit)
                moved = []
            on_tick()

    def _submit(self, executor: Executor, arms: Iterable[Arm], on_submit: Callable[[Job], None]) -> None:
        """Have the runs made that the arms lack; the manifest lists them."""
        for arm in arms:
            for job in {job.key: job for job in arm.jobs}.values():
                if job.key in self._made or job.key in self._asked:
                    continue
                self._asked.add(job.key)
                on_submit(job)
                future = executor.submit(job)
                self._futures[future] = job, arm
                future.add_done_callback(self._ended.put)

    def _wait(self, seconds: float) -> "Future[str] | None":
        """A future that is done, if there is one by then."""
        with suppress(queue.Empty):
            return self._ended.get(timeout=seconds)
        return None

    def _finish(self, future: "Future[str]") -> tuple[Job, Arm]:
        job, arm = self._futures.pop(future)
        try:
            future.result()
        except WorkerDied as error:
            self.ledger.commit(job.key, failed_run_files(job, self.plan.task, str(error)))
        self._made.add(job.key)
        self.num_finished += [other.key for other in arm.jobs].count(job.key)
        for tuning in arm.tunings:
            tuning.missing.discard(job.key)
        return job, arm

    def _advance(self, arm: Arm) -> bool:
        """Move the arm on as far as the ledger's runs allow; returns whether it has new jobs."""
        if arm.finals:
            return False
        moved = [self._advance_tuning(arm, tuning) for tuning in arm.tunings]
        if not all(tuning.is_done for tuning in arm.tunings):
            return any(moved)
        settings = [*zip(self._seeds(), cycle(tuning.setting for tuning in arm.tunings), strict=False)]
        sizes = [
            [self._job(arm, setting, kind.stage, seed, (), kind.protocol) for seed, setting in settings]
            for kind in self.plan.kinds[1:]
        ]
        arm.finals, *arm.rungs = [[job.key for job in jobs] for jobs in sizes]
        arm.final_jobs = [job for jobs in sizes for job in jobs]
        self._look(arm.final_jobs)
        return True

    def _advance_tuning(self, arm: Arm, tuning: Tuning) -> bool:
        """Move one of the arm's tunings on as far as the ledger's runs allow; returns whether it has new jobs."""
        moved, protocol = False, self.plan.tuning_protocol
        while not tuning.is_done and not tuning.missing:
            moved = True
            if tuning.jobs:
                tuning.tell([self._score(job.key) for job in tuning.jobs])
            trials = tuning.next_trials()
            bars = () if tuning.has_repeated else tuning.search.prune_below(protocol.epochs)
            tuning.jobs = [self._job(arm, trial.setting, "trial", trial.seed, bars, protocol) for trial in trials]
            for trial, job in zip(trials, tuning.jobs, strict=True):
                trial.key = job.key
            tuning.missing = self._look(tuning.jobs)
        return moved

    def _look(self, jobs: list[Job]) -> set[str]:
        """Keys of the new jobs that the ledger lacks."""
        keys = [job.key for job in jobs]
        self._made.update(key for key in keys if key in self.ledger)
        missing = set(keys) - self._made
        self.num_finished += sum(key not in missing for key in keys)
        return missing

    def _score(self, key: str) -> Score:
        record = self.ledger.read(key)
        history = self.ledger.read(key, "history.json")
        return Score(record["status"], [row["val_accuracy"] for row in history])

    def _job(
        self, arm: Arm, setting: Setting, stage: Stage, seed: int, prune_below: tuple[float, ...], protocol: Protocol
    ) -> Job:
        run = make_run_config(arm.plan, protocol, setting, stage=stage, seed=seed, prune_below=prune_below)
        key = run_key(run, self.plan.task.content_hash)
        return Job(run=run, key=key, source=self.plan.source, ledger=self.ledger.root)

    def write_manifest(self) -> None:
        """Say what the study consists of, so far, and what the searches were told."""
        if self._storage is None:
            return
        arms = [
            {
                "pose": arm.plan.pose,
                "variant": arm.plan.variant,
                "baseline": arm.plan.baseline,
                **arm.plan.said,
                "trials": arm.trials,
                "winners": arm.winners,
                "finals": arm.finals,
                "rungs": arm.rungs,
                "space": _forms(arm.plan.parameters),
            }
            for arm in self.arms
        ]
        with self._manifest_pace.at_work():
            self._storage.flush()
            self.ledger.write_study(self.plan.name, self.about | {"arms": arms})

    def left_behind(self) -> int:
        """How many finished runs the manifest, as it was, lists that do not belong to the study as it is now.

        Where an arm's tuning goes on from what it lists, what it lists beyond that may yet be the study's.
        """
        arms = {(arm.plan.pose, arm.plan.variant): arm for arm in self.arms}
        listed: set[str] = set()
        for was in self.known.get("arms", ()):
            arm = arms.get((was["pose"], was["variant"]))
            now, before = set(arm.trials) if arm else set[str](), set(was["trials"])
            if arm is None or arm.finals or not (now <= before or before <= now):
                listed.update(keys_of(was))
        listed.difference_update(key for arm in self.arms for key in arm.keys)
        return sum(key in self.ledger for key in listed)

    @cached_property
    def known(self) -> dict[str, Any]:
        """The study's manifest as it was; empty for a new study."""
        return dict(self.ledger.read_study(self.plan.name)) if self.plan.name in self.ledger.studies() else {}

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the manifest says beside the arms, which are yet to take their place."""
        study, protocol = self.plan.study, self.plan.protocol
        began = self.known.get("first", {})
        spaces = {arm.name: _forms(arm.parameters) for arm in self.plan.arms}
        planned = {
            "num_finals": study.final_seeds,
            "first_seed": study.first_seed,
            "claims": dataclasses.asdict(self.plan.claims),
            "protocol_hash": self.plan.protocol_hash,
            "num_trials": study.search.trials,
            "sampler": study.search.sampler,
            "tuning": study.search.tuning,
            "rungs": [
                {"train_images": rung.train_images, "epochs": rung.epochs, "protocol_hash": protocol_hash(rung)}
                for rung in self.plan.rungs
            ],
            "tuned_at": study.ladder.tuned_at,
        }
        overridden = {"overrides": study.overrides} if study.overrides else {}
        grouped = {"group": recorded_group(study.group)} if study.group else {}
        found = {name: getattr(protocol, name) for name in FOUND if getattr(study.protocol, name) == "auto"}
        return {
            "format": RESULT_FORMAT,
            "study": self.plan.name,
            "budget": study.budget,
            "protocol": protocol_record(protocol),
            "task": self.plan.task.record(),
            "images": images_record(self.plan.task, self.plan.protocol),
            "overlap": dataclasses.asdict(self.plan.overlap) if self.plan.overlap else None,
            "wandb_project": study.wandb.project,
            "tracker": study.tracker,
            "arms": [],
            "source": {
                "file": from_here(study.file),
                "data": study.own_images,
                "minutes": None,
                **study.asked,
                **grouped,
                **overridden,
            },
            **tested_pose(self.plan),
            **_factor(self.plan),
            **planned,
            "found": found | self.known.get("found", {}),  # by `auto`, when it first had to find it
            "spaces": began.get("spaces", {}) | spaces,  # a variant may be added, and one taken out
            # What was planned when the study first ran: what was changed since may have been because of its results.
            "first": {**planned, **began, "spaces": spaces | began.get("spaces", {})},
        }


def _forms(parameters: Iterable[Parameter]) -> dict[str, Any]:
    return {parameter.name: parameter.wandb_form() for parameter in parameters}


def tested_pose(plan: Plan) -> dict[str, Any]:
    """The pose of the test part and what it is in words, where that has one of its own."""
    arm = plan.arms[0]
    return {"test_pose": {"name": arm.test_pose, "words": words_of_pose(arm.test_pose)}} if arm.test_pose else {}


def _factor(plan: Plan) -> dict[str, Any]:
    """What the study is one value of, and the studies of all values."""
    study, factor = plan.study, plan.study.factor
    names = [replace(study, name=name).full_name(plan.task.label) for name in factor.names]
    return {"factor": {"key": factor.key, "values": list(factor.values), "studies": names}} if names else {}


def check_same_task(ledger: Ledger, plan: Plan) -> None:
    """Raises UserError if the ledger's study of this name is of other images, or of an older version of stn-bench.

    Its manifest and its tables would be overwritten, and runs of two formats do not mix.
    """
    if plan.name not in ledger.studies():
        return
    known = ledger.read_study(plan.name)
    if known["format"] < RESULT_FORMAT:
        old = f"of format {known['format']}, and this version makes runs of format {RESULT_FORMAT}"
        raise UserError(f"runs: {plan.name} in {ledger.root} is {old}; give RUNS= another name to keep its results")
    if known["task"]["content_hash"] != plan.task.content_hash:
        before, now = (task.get("groups") for task in (known["task"], plan.task.record()))
        if before != now:
            was = f"has {before or 'no'} groups of training images, and now there are {now or 'none'}"
            raise UserError(f"runs: {plan.name} in {ledger.root} {was}; give GROUP= as then, or LABEL= another name")
        raise UserError(f"runs: {plan.name} in {ledger.root} is of other images; give LABEL= or RUNS= another name")


def check_same_device(under_way: Sweep) -> None:
    """Raises UserError if finished runs would not count because the device they were made on is not here."""
    plan = under_way.plan
    if plan.missing_device and (num := under_way.left_behind()):
        runs = "its finished run" if num == 1 else f"{num:,} of its finished runs"
        raise UserError(
            f"device: {plan.name} in {under_way.ledger.root} was begun on {plan.missing_device}, which is not here, "
            f"and {runs} would not count on {plan.protocol.device}; go on with it where there is one, or give RUNS= "
            "another name"
        )


def remove_failed(under_way: Sweep) -> int:
    """Take the plan's failed and diverged runs out of the ledger, so that they are made again; returns how many.

    Those that the plan has no longer stay: nothing would take their place, and a failure is a result.
    """
    ledger = under_way.ledger
    failed = {key for key in under_way.finished() if ledger.read(key)["status"] in ("failed", "diverged")}
    for key in failed:
        ledger.remove(key)
    return len(failed)
