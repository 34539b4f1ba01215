"""What each command does."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from jsonargparse import Namespace
from rich.console import Console
from rich.markup import escape

from baselines.policies import POLICIES
from experiments import tracking
from experiments.catalogue import catalogue
from experiments.config import Optim, Protocol, RunConfig, run_key
from experiments.device import find_device, resolve
from experiments.display import (
    SweepProgress,
    epoch_line,
    print_ablation,
    print_entries,
    print_place,
    print_plan,
    print_status,
    print_tables,
    print_tracking,
    print_variants,
    run_line,
)
from experiments.errors import UserError, nearest
from experiments.estimate import Estimate
from experiments.executors.local import LocalExecutor, default_num_workers, prepare_device
from experiments.images import fit_to_task
from experiments.ledger import Ledger
from experiments.models import MODELS
from experiments.options import Value, typed
from experiments.plan import Plan, make_plan, network_of
from experiments.poses import posed_px, spell_pose
from experiments.runs import Job, Source, carry_out
from experiments.study import BUDGETS, Study, load_study, read_protocol
from experiments.sweep import BAD, Sweep, check_same_task, only_sweep_of, remove_failed
from experiments.sweep_file import Section
from experiments.tasks import load_task
from experiments.tasks.cache import cache_folder
from experiments.tracking import Tracker, resolve_mode
from experiments.variants import Variant, build_model_recipe, build_policy, hyperparameters, parse_variant
from experiments.wandb_sweep import wandb_form
from experiments.wandb_sweep import wandb_sweep as wandb_sweep_file

MAX_JOBS = 1024
TRACKING_WAIT_S = 60.0


def choose_budget(name: str) -> str:
    """`auto` goes by the device found. Raises UserError for a budget that nobody knows."""
    if name == "auto":
        return "gpu" if find_device("auto") == "cuda" else "cpu"
    if name not in BUDGETS:
        raise UserError(f"budget: {name!r} is unknown; {nearest(name, BUDGETS)}")
    return name


def read_study(options: Namespace) -> Study:
    """The study that the options name."""
    task = f"folder:{options.data}" if options.data else None
    return load_study(options.sweep, choose_budget(options.budget), task=task)


def plan_study(options: Namespace, console: Console) -> Plan:
    """The plan of the study that the options name."""
    study = read_study(options)
    if options.budget == "auto":
        found = "a CUDA GPU was found" if study.budget == "gpu" else "no CUDA GPU was found"
        console.print(f"Budget {study.budget}, since {found}; BUDGET=smoke, cpu or gpu chooses.", highlight=False)
    return make_plan(study, label=options.label, cache=cache_folder(), say=say_to(console))


def say_to(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(escape(line), highlight=False, soft_wrap=True)


def count_workers(options: Namespace, plan: Plan) -> int:
    """Worker processes for the plan. Raises UserError for an absurd number."""
    for name in ("jobs", "workers_per_gpu"):
        if not 0 <= options[name] <= MAX_JOBS:
            raise UserError(f"{name}: {options[name]} is not between 0 and {MAX_JOBS}")
    wanted = options.jobs or default_num_workers(plan.protocol.device, max(1, options.workers_per_gpu))
    return min(wanted, plan.num_trials + plan.num_finals)


def sweep(options: Namespace) -> int:
    """Carry out a study."""
    console = Console()
    plan = plan_study(options, console)
    num_workers = count_workers(options, plan)
    mode = resolve_mode(plan.study.wandb.mode)
    ledger = Ledger(options.runs)
    check_reports(options.reports)
    with only_sweep_of(ledger):
        ledger.sweep_up()
        check_same_task(ledger, plan)
        if options.retry_failed:
            remove_failed(ledger, plan.name)
        under_way = Sweep(plan, ledger, store=True)
        under_way.replay()
        estimate = Estimate(plan, under_way, ledger, num_workers)
        print_plan(console, plan, estimate.runs, num_workers, estimate.num_done, estimate.wall_s)
        with Tracker(
            ledger.root,
            project=plan.study.wandb.project,
            group=plan.name,
            mode=mode,
            tags=[f"budget {plan.study.budget}"],
            keys=under_way.finished(),
        ) as tracker:
            if estimate.left_s > 0:
                make_missing_runs(under_way, estimate, tracker, console, num_workers)
            write_and_show_tables(ledger, plan.name, options.reports, console)
            unlogged = tracker.close(TRACKING_WAIT_S)
        print_tracking(console, ledger, mode, tracker.problem, unlogged)
        num_bad = sum(ledger.read(key)["status"] in BAD for key in under_way.finished())
        if num_bad:
            print_place(console, "Failed or diverged", f"{num_bad} runs; `make sweep RETRY=1` makes them again")
    return 0


def check_reports(reports: Path) -> None:
    """Raises UserError if tables could not be written there, before anything trains."""
    try:
        reports.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=reports).close()
    except OSError as error:
        raise UserError(f"reports: {reports} cannot be written ({error.strerror})") from None


def make_missing_runs(
    under_way: Sweep, estimate: Estimate, tracker: Tracker, console: Console, num_workers: int
) -> None:
    """Train what the ledger lacks, with progress."""
    plan, ledger = under_way.plan, under_way.ledger
    progress = SweepProgress(
        console,
        ledger,
        estimate.by_run,
        estimate.left_s,
        num_runs=plan.num_trials + plan.num_finals,
        num_done=estimate.num_done,
        num_workers=num_workers,
    )

    def finished(job: Job) -> None:
        progress.finish(job, len(under_way.finished()))
        tracker.log(job.key)

    with progress, LocalExecutor(plan.protocol.device, num_workers) as executor:
        under_way.run(executor, on_finish=finished, on_tick=progress.tick)


def write_and_show_tables(ledger: Ledger, study: str, reports: Path, console: Console, *, redraw: bool = False) -> None:
    """Write the study's tables and figures, print the ablation and transformer tables, say where everything is.

    redraw: also draw figures that stand beside the same table already; it takes seconds.
    """
    from analysis.ablation import ablation
    from analysis.diagnostics import IMPORTANCE, diagnostics
    from analysis.tables import write_tables

    out = reports / study
    table, figure = out / "ablation.csv", out / "curves.svg"
    before = table.read_bytes() if table.exists() and figure.exists() else None
    write_tables(ledger.root, study, out)
    if redraw or table.read_bytes() != before:
        from analysis.figures import write_figures

        write_figures(ledger.root, study, out)
    paths = sorted(path for path in out.iterdir() if not path.name.startswith("."))
    print_ablation(console, ablation(ledger.root, study))
    if transformers := diagnostics(ledger.root, study):
        print_tables(console, transformers, lambda table: IMPORTANCE)
    stems = dict.fromkeys(path.stem for path in paths)
    names = [stem + " ".join(path.suffix for path in paths if path.stem == stem) for stem in stems]
    print_place(console, "Tables and figures", str(out), ", ".join(names))
    print_place(console, "Ledger", str(ledger.root))


def plan(options: Namespace) -> int:
    """Say what a sweep would do."""
    console = Console()
    planned = plan_study(options, console)
    ledger = Ledger(options.runs, read_only=True)
    num_workers = count_workers(options, planned)
    under_way = Sweep(planned, ledger, store=False)
    under_way.replay()
    estimate = Estimate(planned, under_way, ledger, num_workers)
    print_plan(console, planned, estimate.runs, num_workers, estimate.num_done, estimate.wall_s)
    return 0


def run(options: Namespace) -> int:
    """Make one run, here."""
    console, cache = Console(), cache_folder()
    variant = check_variant(options)
    spec, label = task_of_run(options), options.label
    protocol = read_protocol(Protocol(), Section("run", "protocol", dict(vars(options.protocol))))
    protocol = resolve(protocol, cache)
    task = load_task(spec, image_px=protocol.image_px, cache=cache, say=say_to(console), label=label)
    protocol, shrunk = fit_to_task(protocol, task)
    if shrunk:
        say_to(console)(shrunk)
    config = RunConfig(
        variant=str(variant),
        seed=options.seed,
        stage=options.stage,
        pose=options.pose,
        protocol=protocol,
        optim=Optim(**vars(options.optim)),
        model=own_setting(variant, "model", options),
        policy=own_setting(variant, "policy", options),
        prune_below=tuple(options.prune_below),
    )
    network_of(config.variant, posed_px(config.pose, protocol.image_px), len(task.classes), config.model)
    ledger = Ledger(options.runs)
    job = Job(config, run_key(config, task.content_hash), Source(spec, label, protocol.image_px, cache), ledger.root)
    if job.key not in ledger:
        device = torch.device(protocol.device)
        prepare_device(device)
        console.print(f"{config.variant} on {escape(task.label)}, {protocol.precision} on {device}", highlight=False)
        carry_out(job, device, on_epoch=lambda row: console.print(epoch_line(row, protocol.epochs), highlight=False))
    record = ledger.read(job.key)
    console.print(run_line(config, record, ledger.read(job.key, "cost.json")), highlight=False, soft_wrap=True)
    console.print(f"Run {job.key} in {escape(str(ledger.folder(job.key)))}", highlight=False, soft_wrap=True)
    mode = resolve_mode("auto")
    with Tracker(ledger.root, project="stn-bench", group="single runs", mode=mode, keys=[job.key]) as tracker:
        unlogged = tracker.close(TRACKING_WAIT_S)
    print_tracking(console, ledger, mode, tracker.problem, unlogged)
    return 0 if record["status"] in ("completed", "pruned") else 1


def own_setting(variant: Variant, part: str, options: Namespace) -> dict[str, Value]:
    """The hyper-parameters of the variant's model or policy: what was asked for, defaults for the rest."""
    defaults = hyperparameters(variant)
    names = [name.removeprefix(f"{part}.") for name in defaults if name.startswith(f"{part}.")]
    owner = MODELS[variant.model] if part == "model" else POLICIES[variant.policy]
    return {name: typed(owner, part, name, options[part].get(name, defaults[f"{part}.{name}"])) for name in names}


def task_of_run(options: Namespace) -> str:
    if options.data:
        return f"folder:{options.data}"
    if options.task:
        return str(options.task)
    return read_study(options).task if options.sweep.exists() else "cifar10"


def check_variant(options: Namespace) -> Variant:
    """The run's variant. Raises UserError for names and hyper-parameters that do not exist."""
    variant = parse_variant(options.variant)
    build_model_recipe(variant, options.model)
    options.pose = spell_pose(options.pose)
    build_policy(variant, options.policy, options.pose)
    if options.seed < 0:
        raise UserError(f"seed: {options.seed} is negative")
    for name, value in vars(options.optim).items():
        if not 0 <= value < 1e6:
            raise UserError(f"optim.{name}: {value} is not between 0 and 1e6")
    for value in options.prune_below:
        if not 0 <= value <= 1:
            raise UserError(f"prune_below: {value} is not between 0 and 1")
    return variant


def existing_ledger(options: Namespace) -> Ledger:
    """The ledger that the options name, to look at. Raises UserError if there is none."""
    if not options.runs.is_dir():
        raise UserError(f"runs: there is no ledger at {options.runs}; `make sweep` makes one")
    return Ledger(options.runs, read_only=True)


def status(options: Namespace) -> int:
    """Show the ledger."""
    ledger = existing_ledger(options)
    studies = []
    for name in ledger.studies():
        manifest = ledger.read_study(name)
        arms = []
        for arm in manifest["arms"]:
            counts: dict[str, dict[str, int]] = {}
            for stage in ("trials", "finals"):
                counts[stage] = {}
                for key in arm[stage]:
                    found = ledger.read(key)["status"] if key in ledger else "missing"
                    counts[stage][found] = counts[stage].get(found, 0) + 1
            arms.append({"pose": arm["pose"], "variant": arm["variant"], "winner": arm["winner"], **counts})
        about = {key: manifest[key] for key in ("budget", "protocol_hash", "num_trials", "num_finals")}
        studies.append({"study": name, "task": manifest["task"]["label"], **about, "arms": arms})
    report = {"ledger": str(ledger.root), "num_runs": len(ledger), "studies": studies, "running": ledger.running()}
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print_status(Console(), report)
    return 0


def tables(options: Namespace) -> int:
    """Write tables and figures again."""
    ledger = existing_ledger(options)
    known = ledger.studies()
    study = options.study or (known[0] if known else "")
    if study not in known:
        raise UserError(f"study: {study!r} is not in {ledger.root}; {nearest(study, known)}")
    write_and_show_tables(ledger, study, options.reports, Console(), redraw=True)
    return 0


def variants(options: Namespace) -> int:
    """List everything that a name can stand for, or say all about one name."""
    found = catalogue(options.name)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.name:
        print_entries(Console(), found)
    else:
        print_variants(Console(), found)
    return 0


def bench(options: Namespace) -> int:
    """Measure speed."""
    from benchmarks.speed import measure

    return measure(options.out, quick=options.quick)


def dashboard(options: Namespace) -> int:
    """Open W&B's terminal dashboard."""
    tracking.dashboard(options.runs)


def sync(options: Namespace) -> int:
    """Upload to W&B."""
    tracking.sync(options.runs, say_to(Console()))
    return 0


def wandb_sweep(options: Namespace) -> int:
    """Print a W&B sweep file."""
    study = read_study(options)
    known = [entry.variant for entry in study.variants]
    if options.variant not in known:
        raise UserError(f"variant: {options.variant!r} is not in {options.sweep}; {nearest(options.variant, known)}")
    arguments = ["--sweep", str(options.sweep), "--budget", study.budget, "--runs", str(options.runs)]
    arguments += ["--data", str(options.data)] if options.data else []
    arguments += ["--label", options.label] if options.label else []
    sweep_file = wandb_sweep_file(
        {parameter.name: wandb_form(parameter) for parameter in study.search.parameters(options.variant)},
        variant=options.variant,
        project=study.wandb.project,
        method="random" if study.search.sampler == "random" else "bayes",
        metric="val/accuracy",
        program="experiments",
        arguments=arguments,
    )
    print(yaml.safe_dump(sweep_file, sort_keys=False), end="")
    return 0


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "sweep": sweep,
    "plan": plan,
    "run": run,
    "status": status,
    "tables": tables,
    "variants": variants,
    "bench": bench,
    "dashboard": dashboard,
    "sync": sync,
    "wandb-sweep": wandb_sweep,
}
