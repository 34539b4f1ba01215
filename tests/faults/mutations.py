"""Ways to break the product's promises, one each, and the test that must say so. test_mutations.py carries them out."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """`old`, which is in the file exactly once, becomes `new`; then `test`, a node of pytest's, must fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


LEDGER, FILES, COMMITTED, CHECKPOINTS, SWEEP = (
    "ledger/ledger.py",
    "ledger/files.py",
    "ledger/committed.py",
    "experiments/runs/checkpoints.py",
    "experiments/sweep/sweep.py",
)
ON_DISK = "tests/ledger/test_ledger.py::test_every_file_is_on_disk_before_the_run_appears"
OLD_OR_NEW = "tests/ledger/test_ledger.py::test_old_content_or_new_and_no_mixture"
RESUMED = "tests/experiments/runs/test_resume.py::test_a_run_that_is_stopped_in_each_epoch_ends_as_if_it_had_not_been"
IN_PEACE = "tests/faults/test_reconciliation.py::test_the_study_in_peace_is_one_that_can_tell"
YAML = "tests/experiments/study/test_sweep_file.py::test_yaml_that_cannot_be_a_study_is_refused"

MUTATIONS = (
    # Nothing lost
    Mutation(
        "a file is written in its place",
        FILES,
        'temporary = path.with_name(f".{path.name}.{os.getpid()}")',
        "temporary = path",
        OLD_OR_NEW,
    ),
    Mutation(
        "a file is renamed before it is on disk",
        FILES,
        "            os.fsync(file.fileno())\n        temporary.replace(path)",
        "        temporary.replace(path)",
        OLD_OR_NEW,
    ),
    Mutation(
        "a run is written in its place",
        LEDGER,
        '        temporary = self.root / "runs" / f".{key}.{os.getpid()}"',
        "        temporary = self.folder(key)",
        ON_DISK,
    ),
    Mutation(
        "a run is not renamed",
        LEDGER,
        "            temporary.rename(self.folder(key))\n",
        "",
        "tests/ledger/test_ledger.py::test_a_committed_run_is_there_with_all_its_files",
    ),
    Mutation("a run is renamed before it is on disk", LEDGER, " " * 20 + "os.fsync(file.fileno())\n", "", ON_DISK),
    Mutation("a run's folder is not flushed", LEDGER, "            flush_folder(temporary)\n", "", ON_DISK),
    Mutation(
        "a damaged checkpoint is taken",
        CHECKPOINTS,
        'return hashlib.file_digest(file, "sha256").hexdigest() == path.stem.rpartition("-")[2]',
        "return True",
        "tests/experiments/runs/test_checkpoints.py::test_a_damaged_generation_is_passed_over",
    ),
    Mutation(
        "only one generation of checkpoints is kept",
        CHECKPOINTS,
        "{path, self._previous})",
        "{path})",
        "tests/experiments/runs/test_checkpoints.py::test_the_last_two_generations_are_there",
    ),
    Mutation(
        "the older checkpoint goes before the newer one was read back",
        CHECKPOINTS,
        "            if _is_whole(path):\n                self._remove",
        "            if True:\n                self._remove",
        "tests/experiments/runs/test_checkpoints.py::test_the_old_ones_stay_until_the_new_one_was_read_back",
    ),
    Mutation(
        "a checkpoint of another run is taken",
        CHECKPOINTS,
        "            if any(values[name] != value for name, value in self._identity.items()):",
        "            if False:",
        "tests/experiments/runs/test_checkpoints.py::test_one_of_another_run_or_another_arithmetic_is_refused",
    ),
    Mutation(
        "momentum is forgotten on resuming",
        "experiments/runs/training_state.py",
        "        self.optimiser.take_momenta(self.network, momenta)\n",
        "",
        RESUMED,
    ),
    Mutation(
        "averages are forgotten on resuming",
        "experiments/runs/training_state.py",
        'return tensors | {f"average.{name}": value for name, value in averages.items()}',
        "return tensors",
        RESUMED,
    ),
    Mutation(
        "dropout goes on from the process's random numbers",
        "experiments/runs/training.py",
        '        torch.manual_seed(seed_of(run.seed, epoch, "dropout"))\n',
        "",
        RESUMED,
    ),
    Mutation(
        "an earlier journal of Optuna's stays",
        "experiments/study/search.py",
        "            old.unlink(missing_ok=True)\n",
        "            pass\n",
        "tests/experiments/study/test_search.py::test_an_earlier_journal_gives_way_even_if_its_writer_was_killed",
    ),
    # Nothing counted twice, nothing by chance
    Mutation(
        "the lock is dropped",
        "ledger/sweep_lock.py",
        "            lock.acquire(timeout=0)\n",
        "",
        "tests/experiments/sweep/test_sweep_trouble.py::test_a_second_sweep_on_the_same_ledger_is_refused",
    ),
    Mutation(
        "draws know no seed",
        "experiments/images/draws.py",
        "    word = seed_of(seed, purpose)\n",
        "    word = seed_of(purpose)\n",
        "tests/experiments/images/test_draws.py::test_another_seed_epoch_or_purpose_gives_other_numbers",
    ),
    Mutation("all final runs share a seed", SWEEP, "kind.stage, seed, ()", "kind.stage, 1, ()", IN_PEACE),
    Mutation(
        "the key leaves the seed out",
        "ledger/config.py",
        '"run": record, "task": content_hash}',
        '"run": {**record, "seed": 0}, "task": content_hash}',
        "tests/ledger/test_config.py::test_every_field_changes_the_key",
    ),
    Mutation(
        "the key leaves the images out",
        "ledger/config.py",
        '"run": record, "task": content_hash}',
        '"run": record, "task": ""}',
        "tests/ledger/test_config.py::test_the_key_of_a_run_stays_what_it_is",
    ),
    Mutation(
        "a wave does not wait for its slowest run",
        SWEEP,
        "while not tuning.is_done and not tuning.missing:",
        "while not tuning.is_done and len(tuning.missing) < max(1, len(tuning.jobs)):",
        IN_PEACE,
    ),
    Mutation(
        "bars count trials that were pruned",
        "experiments/study/search.py",
        "states=(TrialState.COMPLETE,)",
        "states=(TrialState.COMPLETE, TrialState.PRUNED)",
        "tests/experiments/study/test_search.py::test_bars_decide_as_optunas_median_pruner",
    ),
    Mutation(
        "a trial may read the test part",
        "experiments/runs/evaluation.py",
        '    if run.stage == "trial":\n',
        "    if False:\n",
        "tests/experiments/runs/test_evaluation.py::test_a_trial_may_not_read_it",
    ),
    Mutation(
        "protocols mix in tables",
        "analysis/records.py",
        '        _check_same(file, "protocol", hashed, found_hashes)\n',
        "        pass\n",
        "tests/analysis/test_records.py::test_two_protocols_do_not_mix",
    ),
    Mutation(
        "a run is logged again",
        "experiments/tracking/tracker.py",
        "(self._is_agents or self._marker(key) is None)",
        "True",
        "tests/experiments/tracking/test_tracking.py::test_logged_runs_start_no_process",
    ),
    Mutation(
        "a run is tried once too often",
        "experiments/sweep/executors/local.py",
        "for number in range(1, NUM_ATTEMPTS + 1):",
        "for number in range(1, NUM_ATTEMPTS + 2):",
        "tests/experiments/sweep/test_executor.py::test_a_run_whose_worker_is_killed_twice_is_given_up",
    ),
    Mutation(
        "workers outlive their supervisor",
        "experiments/sweep/executors/worker.py",
        "    end_with_parent(parent, signal.SIGKILL)\n",
        "",
        "tests/experiments/sweep/test_executor.py::test_workers_end_when_their_supervisor_is_killed",
    ),
    # Nothing let in
    Mutation(
        "SHA256SUMS is not compared",
        COMMITTED,
        "if sums is not None and not fits(path.name, content, sums):",
        "if False:",
        "tests/faults/test_integrity.py::test_a_sweep_takes_no_damaged_run",
    ),
    Mutation(
        "a study's checksum is not compared",
        COMMITTED,
        "    if not digest_fits(value):\n",
        "    if False:\n",
        "tests/faults/test_reconciliation.py::test_a_damaged_manifest_is_named_and_nothing_is_done",
    ),
    Mutation(
        "a newer format is read",
        COMMITTED,
        "    if version := newer_format(value):\n",
        "    if False:\n",
        "tests/ledger/test_ledger.py::test_a_newer_format_is_refused",
    ),
    Mutation(
        "an archive's checksum is not compared",
        "experiments/images/tasks/cifar10.py",
        '        if hashlib.file_digest(file, "sha256").hexdigest() != ARCHIVE_SHA256:\n',
        "        if False:\n",
        "tests/experiments/images/test_task_cifar10.py::test_wrong_checksum",
    ),
    Mutation(
        "runs of other bytes are merged",
        "ledger/merging.py",
        "for key in known if (text := ",
        "for key in () if (text := ",
        "tests/ledger/test_merge.py::test_the_same_run_with_other_bytes_is_a_conflict",
    ),
    Mutation(
        "a ledger's archive is not read to its end",
        "ledger/archive.py",
        "            while packed.read(PIECE):",
        "            while False:",
        "tests/ledger/test_archive.py::test_one_that_was_cut_short_is_refused_wherever",
    ),
    Mutation(
        "the checksum of a file of images is not compared",
        "experiments/images/tasks/downloads.py",
        "    if digest.hexdigest() != checksum:\n",
        "    if False:\n",
        "tests/experiments/images/test_task_mnist.py::test_own_files_that_are_damaged",
    ),
    Mutation(
        "arrays of the cache may be pickles",
        "experiments/images/tasks/cache.py",
        'np.load(_plain(path), mmap_mode="r", allow_pickle=False)',
        "np.load(_plain(path), allow_pickle=True)",
        "tests/attacks/test_cache_entries.py::test_a_cache_entry_made_to_do_harm_is_built_again",
    ),
    Mutation(
        "a checkpoint is unpickled",
        CHECKPOINTS,
        'with safe_open(path, framework="pt") as file:',
        'with __import__("pickle").loads(path.read_bytes()) as file:',
        "tests/experiments/runs/test_checkpoints.py::test_a_pickle_is_never_loaded",
    ),
    Mutation(
        "weights are a pickle",
        "experiments/runs/run.py",
        "    return safetensors.torch.save({",
        '    return __import__("pickle").dumps({',
        "tests/faults/test_integrity.py::test_a_ledger_that_is_well_is_left_as_it_is",
    ),
    Mutation(
        "a key may be in a sweep file twice", "experiments/study/sweep_file.py", "if key in values:", "if False:", YAML
    ),
    Mutation(
        "plain values are those of YAML 1.1, where 1e-3 is a text",
        "experiments/study/sweep_file.py",
        "_Loader.yaml_implicit_resolvers = {}",
        "_Loader.yaml_implicit_resolvers = dict(_Loader.yaml_implicit_resolvers)",
        "tests/experiments/study/test_sweep_file.py::test_plain_values_are_those_of_yaml_1_2",
    ),
    Mutation(
        "a study's name may lead out of the ledger",
        "experiments/study/study.py",
        '_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"',
        '_NAME = r".*"',
        "tests/experiments/study/test_study.py::test_a_refusal_begins_with_file_and_key",
    ),
    Mutation(
        "text is HTML",
        "analysis/formats/html.py",
        "html.escape(plain(text))",
        "plain(text)",
        "tests/analysis/test_formats.py::test_html_shows_the_text",
    ),
    Mutation(
        "text is Markdown",
        "analysis/formats/markdown.py",
        '.replace("<", "&lt;")',
        "",
        "tests/analysis/test_formats.py::test_markdown_has_no_html",
    ),
    Mutation(
        "text is LaTeX",
        "analysis/formats/latex.py",
        '"&": r"\\&", ',
        "",
        "tests/analysis/test_formats.py::test_latex_is_ascii_without_bare_specials",
    ),
    Mutation(
        "a cell may hold a formula",
        "analysis/formats/csv.py",
        'text.startswith(("=", "+", "-", "@"))',
        "False",
        "tests/analysis/test_formats.py::test_csv_holds_no_formula",
    ),
    Mutation(
        "control characters reach the terminal",
        "ledger/plain_text.py",
        "return text if text.isprintable() else",
        "return text if text else",
        "tests/analysis/test_formats.py::test_one_line",
    ),
)
