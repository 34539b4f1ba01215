"""Who wins a tuning, and which settings are tried again before one does."""

from experiments.study.search import Score
from experiments.study.search_space import Parameter
from experiments.study.tuning import NUM_FINALISTS, NUM_REPEATS, Trial, Tuning, num_runs
from ledger.winners import Tried, winner_of
from tests.experiments.study.test_search import search_of

LR = Parameter("optim.lr", "float", 0.02, 0.5, log=True)


def tried(**accuracies: float | None) -> list[Tried]:
    """A trial each, of a setting of its own; None diverged."""
    return [one(key, key, 0, accuracy) for key, accuracy in accuracies.items()]


def one(key: str, setting: str, seed: int, accuracy: float | None) -> Tried:
    return Tried(key, setting, seed, "diverged" if accuracy is None else "completed", accuracy)


def test_the_highest_accuracy_of_a_completed_trial_wins() -> None:
    assert winner_of(tried(a=0.3, b=0.4, c=0.2)) == "b"
    assert winner_of(tried(a=None, b=None, c=0.0)) == "c"
    assert winner_of(tried(a=0.3, b=0.4, c=0.4)) == "b"
    assert winner_of(tried(a=None)) is None
    assert winner_of([]) is None


def test_settings_that_were_tried_again_win_by_their_mean() -> None:
    again = [one("a2", "a", -1, 0.5), one("b2", "b", -1, 0.3), one("a3", "a", -2, 0.5), one("b3", "b", -2, 0.3)]
    assert winner_of([*tried(a=0.4, b=0.6, c=0.5), *again]) == "a"
    diverged = [one("a2", "a", -1, 0.7), one("b2", "b", -1, 0.3), one("a3", "a", -2, None), one("b3", "b", -2, 0.3)]
    assert winner_of([*tried(a=0.4, b=0.6, c=0.5), *diverged]) == "b"  # by 1.2 to 1.1, of three each
    failed = [*diverged[:2], Tried("a3", "a", -2, "failed", None), diverged[3]]  # the machine's fault
    assert winner_of([*tried(a=0.4, b=0.6, c=0.5), *failed]) == "a"


def test_a_setting_that_a_small_space_repeats_was_tried_once() -> None:
    same = one("a", "a", 0, 0.3)
    assert winner_of([same, *tried(b=0.4), same, same]) == "b"
    pruned = Tried("a2", "a", 0, "pruned", 0.2)  # under another bar, and so with another key
    assert winner_of([same, *tried(b=0.4), pruned]) == "b"


def go_through(tuning: Tuning, accuracy: dict[int, list[float]]) -> list[list[Trial]]:
    """accuracy: of each trial in its order, and of each of the finalists, by seed."""
    waves: list[list[Trial]] = []
    left = {seed: iter(values) for seed, values in accuracy.items()}
    while trials := tuning.next_trials():
        for number, trial in enumerate(trials):
            trial.key = f"{trial.seed} {len(waves)} {number}"
        waves.append(trials)
        tuning.tell([Score("completed", [next(left[trial.seed])]) for trial in trials])
    return waves


def test_the_best_settings_are_tried_again_with_other_seeds() -> None:
    search = search_of("a", (LR,), {"optim.lr": 0.1}, trials=6, wave_size=3)
    tuning = Tuning(search, 0, repeats=True)
    first = [0.1, 0.6, 0.2, 0.5, 0.3, 0.4]
    waves = go_through(tuning, {0: first, -1: [0.2, 0.4, 0.3], -2: [0.2, 0.4, 0.3]})
    assert [len(wave) for wave in waves] == [3, 3, NUM_FINALISTS * NUM_REPEATS]
    trials = [*waves[0], *waves[1]]
    assert [trial.setting for trial in waves[2]] == 2 * [trials[index].setting for index in (1, 3, 5)]
    assert [trial.seed for trial in waves[2]] == [-1] * 3 + [-2] * 3
    assert tuning.is_done and tuning.winner == trials[3].key and tuning.setting == trials[3].setting
    assert len(search.study.trials) == 6  # the sampler does not hear of the repeats
    assert num_runs(6, repeats=True) == 12


def test_few_settings_are_not() -> None:
    for repeats, num_trials in ((True, 3), (False, 8)):
        search = search_of("a", (LR,), {"optim.lr": 0.1}, trials=num_trials, wave_size=8)
        waves = go_through(Tuning(search, -4, repeats), {-4: [0.1] * num_trials})
        assert [len(wave) for wave in waves] == [num_trials] == [num_runs(num_trials, repeats=repeats)]


def test_the_default_goes_on_where_no_trial_was_completed() -> None:
    tuning = Tuning(search_of("a", (LR,), {"optim.lr": 0.1}, trials=4), 0, repeats=True)
    for trial in tuning.next_trials():
        trial.key = f"{trial.setting}"
    tuning.tell([Score("failed", [])] * 4)
    assert not tuning.next_trials() and tuning.is_done
    assert tuning.winner is None and tuning.setting == {"optim.lr": 0.1}
