"""What the options of a command line name: a study, its plan, its findings."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

from jsonargparse import Namespace
from rich.console import Console

from experiments.images.tasks import Say
from experiments.images.tasks.cache import cache_folder
from experiments.machine.device import Call, find_device, here
from experiments.study.memory_space import fit_to_memory
from experiments.study.plan import Loaded, Plan, load, make_plan
from experiments.study.search import IMPORTANCE_EVALUATOR, importances
from experiments.study.search_space import read_space
from experiments.study.settled import begun_budget
from experiments.study.study import Study, load_studies, load_study
from experiments.study.sweep_file import Section
from experiments.sweep.executors import Place, open_place
from experiments.terminal.display import say_to
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.options import option_text
from ledger.wording import count, listed

if TYPE_CHECKING:  # analysis is slow to import, and most commands do without it
    from analysis.findings import Findings

MAX_JOBS = 1024
OTHER = {"cpu": "gpu", "gpu": "cpu"}
"""The budget that `auto` might have chosen on another machine, by the one it chose."""


def choose_budget(name: str, call: Call = here) -> str:
    """`auto` goes by the device found where `call` calls functions."""
    if name == "auto":
        return "gpu" if call(find_device, "auto") == "cuda" else "cpu"
    return name


def read_study(options: Namespace, call: Call = here) -> Study:
    """The study that the options name. Raises UserError for one with a factor: it is several."""
    study = load_study(options.sweep, choose_budget(options.budget, call), **_said(options))
    if key := study.factor.key:
        value = option_text(study.factor.values[0])
        raise UserError(f'{study.file}: factor: say which value is meant: SET="factor= {key}={value}"')
    return study


def _said(options: Namespace) -> dict[str, Any]:
    task = f"folder:{options.data}" if options.data else None
    return {"task": task, "group": options.group, "given": options.set or ()}


def place_of(options: Namespace) -> AbstractContextManager[Place]:
    """Where the options want the study's runs made. Raises UserError for what is wrong with the study first."""
    load_studies(options.sweep, choose_budget(options.budget), **_said(options))  # a cluster takes seconds to be had
    check_counts(options)
    return open_place(options.executor)


def load_images(options: Namespace, console: Console, call: Call) -> tuple[tuple[Study, ...], Loaded]:
    """The study that the options name, at each value of its factor, and the images at the first."""
    say = say_to(console)
    studies = load_studies(options.sweep, choose_budget(options.budget, call), **_said(options))
    study = studies[0]
    loaded = load(study, label=options.label, cache=cache_folder(), say=say, call=call)
    if options.budget == "auto":
        why = f"{'a' if study.budget == 'gpu' else 'no'} CUDA GPU was found"
        others = load_studies(options.sweep, OTHER[study.budget], **_said(options))
        ledger = Ledger(options.runs, read_only=True)
        study, begun = begun_budget(ledger, study, others[0], loaded.task.label, call)
        studies = others if study is others[0] else studies
        choices = listed(study.budgets, last="or")
        say(f"{begun or f'Budget {study.budget}, since {why}.'} BUDGET={choices} chooses.")
        if (study.protocol.image_px, study.protocol.fit) != (loaded.source.image_px, loaded.source.fit):
            loaded = load(study, label=options.label, cache=cache_folder(), say=say, call=call)
    return studies, loaded


def plan_studies(options: Namespace, console: Console, place: Place) -> list[Plan]:
    """The plan of the study that the options name, at each value of its factor, carried out at that place."""
    say, call, label = say_to(console), place.call, options.label
    if place.text:
        say(place.text)
    studies, loaded = load_images(options, console, call)
    ledger = Ledger(options.runs, read_only=True)
    say("Checking every variant ...")
    plans: dict[str, Plan] = {}
    for each in studies:
        value = each.factor.text(each.name)
        try:
            plan = make_plan(each, label=label, cache=cache_folder(), say=say, call=call, ledger=ledger, loaded=loaded)
        except UserError as error:
            raise UserError(f"{error} (at {value})" if value else str(error)) from None
        if (other := plans.setdefault(plan.protocol_hash, plan)) is not plan:
            same = f"{other.study.factor.text(other.study.name)} and {value}"
            raise UserError(f"{each.file}: factor: {same} come to the same on this machine and these images")
    if not (study := studies[0]).has_budget:
        say(f"{study.file} has no budgets.{study.budget}: what it says applies as it stands, whatever that takes.")
    return list(plans.values())


def check_counts(options: Namespace) -> None:
    """Raises UserError for an absurd number of workers."""
    for name in ("jobs", "workers_per_gpu"):
        if not 0 <= (number := options.get(name, 0)) <= MAX_JOBS:
            raise UserError(f"{name}: {number} is not between 0 and {MAX_JOBS}")


def count_workers(options: Namespace, plan: Plan, place: Place, say: Say) -> int:
    """Worker processes for the plan at that place. `say` hears where they are fewer than asked for, or than cores."""
    check_counts(options)
    wanted, num_runs = options.jobs, plan.num_runs
    room = place.num_workers(plan.protocol.device, wanted, max(1, options.get("workers_per_gpu", 0)))
    number = min(room, num_runs)
    if number < wanted:
        why = f"there is room for {room} now" if room <= num_runs else f"there are {num_runs} runs"
        say(f"JOBS={wanted}: {why}, so it is {count(number, 'worker')}.")
    elif not wanted and place.processes_here and plan.protocol.device == "cpu":
        number = fit_to_memory(plan, number, place.processes_here, say)
    return number


def find_study(ledger: Ledger, name: str) -> "Findings":
    """What is in the ledger of the study of that name, with the importance of its hyper-parameters.

    That is of the arms that have trials enough. What cannot be computed is one of the findings' faults.
    """
    from analysis.faults import kept
    from analysis.findings import Findings, Importances
    from analysis.records import read_study

    study, faults = read_study(ledger.root, name), dict[str, Any]()
    file = str(study.ledger / "studies" / study.name / "study.json")
    trials = study.runs[(study.runs["stage"] == "trial") & (study.runs["status"] == "completed")]
    by_arm = {}
    for index, arm in enumerate(study.arms):
        parameters = read_space(Section(file, "space", arm.space))
        known = trials[trials["arm"] == index].reindex(columns=["val_accuracy", *arm.space]).dropna()
        settings = cast("list[dict[str, Any]]", known[list(arm.space)].to_dict("records"))
        with kept(faults, "importance of hyper-parameters"):
            if shares := importances(parameters, settings, known["val_accuracy"].tolist()):
                by_arm[arm.pose, arm.variant] = shares
    return Findings(study, Importances(IMPORTANCE_EVALUATOR, by_arm) if by_arm else None, faults)
