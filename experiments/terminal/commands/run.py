"""`run`: make one run, here."""

import torch
from jsonargparse import Namespace
from rich.console import Console
from rich.markup import escape

from baselines.composition import own_values
from experiments.images.poses import posed_px, spell_pose
from experiments.images.tasks import load_task
from experiments.images.tasks.cache import cache_folder
from experiments.images.tasks.overlap import find_overlap, overlap_text
from experiments.machine.device import find_device, prepare_device, resolve
from experiments.networks.variants import Variant, build_model, build_policy, hyperparameters, parse_variant
from experiments.runs.images import fit_to_task
from experiments.runs.run import Job, Source, begun_record, make_run
from experiments.runs.training import Row
from experiments.study.arms import network_of, typed_value
from experiments.study.settled import FOUND, settled_protocol
from experiments.study.study import read_protocol
from experiments.study.sweep_file import Section
from experiments.study.tested_pose import check_learns_no_pose, pose_of_test, spell_test_pose
from experiments.terminal.commands.options import read_study
from experiments.terminal.display import epoch_line, print_tracking, run_line, say_to
from experiments.tracking.tracker import TRACKING_WAIT_S, Tracker, find_mode
from ledger.config import Optim, Protocol, RunConfig, run_key
from ledger.errors import UserError
from ledger.forms import MAX_WHOLE
from ledger.ledger import Ledger
from ledger.markers import SINGLE_RUNS
from ledger.options import Value


def main(options: Namespace) -> int:
    console, cache = Console(), cache_folder()
    say = say_to(console)
    if options.stage == "rung":
        raise UserError("stage: rung is for runs that a study makes; write final")
    variant = check_variant(options)
    study = read_study(options) if options.sweep.exists() else None
    spec = f"folder:{options.data}" if options.data else options.task or (study.task if study else "cifar10")
    protocol = read_protocol(Protocol(), Section("run", "protocol", dict(vars(options.protocol))))
    find_device(protocol.device)  # before images are decoded, which may take long
    group = options.group or (study.group if study and not options.task else "")
    task = load_task(
        spec, image_px=protocol.image_px, fit=protocol.fit, cache=cache, say=say, label=options.label, group=group
    )
    settled, ledger = None, Ledger(options.runs, read_only=True)
    if study and any(options.protocol[name] == "auto" for name in FOUND):  # a run beside the study has the same
        settled = settled_protocol(ledger, study.full_name(task.label), task.content_hash)
    protocol, shrunk = fit_to_task(resolve(protocol, cache, settled=settled), task)
    for line in filter(None, (overlap_text(task, find_overlap(task)), shrunk)):
        say(line)
    setting = full_setting(variant, options)
    config = RunConfig(
        variant=str(variant),
        seed=options.seed,
        stage=options.stage,
        pose=options.pose,
        test_pose=options.test_pose,
        protocol=protocol,
        optim=Optim(**vars(options.optim)),
        model=own_values("model", setting),
        policy=own_values("policy", setting),
        prune_below=tuple(options.prune_below),
    )
    image_px = posed_px(config.pose, protocol.image_px)
    network_of(config.variant, protocol, image_px, len(task.classes), config.model, task.num_channels)
    mode, why = find_mode("auto")
    ledger = Ledger(options.runs)
    source = Source(spec, options.label, protocol.image_px, cache, fit=protocol.fit, group=group)
    job = Job(config, run_key(config, task.content_hash), source, ledger.root)
    project, group = SINGLE_RUNS
    with Tracker(ledger.root, project=project, group=group, mode=mode) as tracker:

        def on_epoch(row: Row) -> None:
            tracker.tick()  # what is known of the run may be more than the tracker took at once
            console.print(epoch_line(row, protocol.epochs), highlight=False)

        if job.key not in ledger:
            device = torch.device(protocol.device)
            prepare_device(device)
            console.print(
                f"{config.variant} on {escape(task.label)}, {protocol.precision} on {device}", highlight=False
            )
            tracker.follow(begun_record(job, task))
            make_run(job, device, on_epoch)
        tracker.log(job.key)
        record = ledger.read(job.key)
        console.print(run_line(config, record, ledger.read(job.key, "cost.json")), highlight=False, soft_wrap=True)
        say(f"Run {job.key} in {ledger.folder(job.key)}")
        unlogged = tracker.close(TRACKING_WAIT_S)
    print_tracking(console, ledger, mode, why, tracker.problem, unlogged)
    return 0 if record["status"] in ("completed", "pruned") else 1


def full_setting(variant: Variant, options: Namespace) -> dict[str, Value]:
    """The hyper-parameters of the variant's model and policy: what was asked for, defaults for the rest."""
    given = {f"{part}.{name}": value for part in ("model", "policy") for name, value in options[part].items()}
    defaults = hyperparameters(variant)
    return {name: typed_value(variant, name, given.get(name, default)) for name, default in defaults.items()}


def check_variant(options: Namespace) -> Variant:
    """The run's variant. Raises UserError for names and hyper-parameters that do not exist."""
    variant = parse_variant(options.variant)
    model = build_model(variant, options.model)
    options.pose = spell_pose(options.pose)
    test_pose = pose_of_test(options.test_pose, options.stage)
    options.test_pose = spell_test_pose(test_pose, options.pose, options.protocol.image_px)
    if options.test_pose:
        check_learns_no_pose("run", variant, [model])
    build_policy(variant, options.policy)
    if options.seed < 0:
        raise UserError(f"seed: {options.seed} is negative")
    if options.seed > MAX_WHOLE:
        raise UserError(f"seed: {options.seed} is above {MAX_WHOLE}")
    for name, value in vars(options.optim).items():
        if not 0 <= value < 1e6:
            raise UserError(f"optim.{name}: {value} is not between 0 and 1e6")
    for value in options.prune_below:
        if not 0 <= value <= 1:
            raise UserError(f"prune_below: {value} is not between 0 and 1")
    return variant
