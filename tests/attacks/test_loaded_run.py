"""What attacks train again is trained on whom they say."""

from types import SimpleNamespace

from reticent.attacks import LoadedRun
from reticent.attacks.auditing.made_up_cohort import made_up_cohort
from reticent.records import RunFolder, make_study
from reticent.training import PreparedCohort, make_task


def test_a_training_like_a_fold_s_is_on_all_that_the_attack_trains_on(tmp_path):
    """A fold would hold a part of the planted patients out, and a weaker attack would look like more privacy."""
    run = LoadedRun(RunFolder(tmp_path))
    run.study = make_study(
        {
            "cohort": {"uri": "cohort.csv", "fold": {"folds": 3, "number": 1}},
            "privacy": {"epsilon": 2.0, "delta": 1e-3},
        }
    )
    state = SimpleNamespace(
        noise_multiplier=1.0, class_weights=None, task="binary", classes=("a", "b"), inputs={"image": 1},
        image_size=(8, 8), ranges=(),
    )  # fmt: skip
    run.state = state
    cohort = made_up_cohort(state, make_task(state), {f"planted-{k}": 1 for k in range(30)}, seed=0)
    data = PreparedCohort(cohort, run.repeated_study(), b"splits are given")
    assert set(data.splits) == {"train"}
    assert set(PreparedCohort(cohort, run.study, b"splits are given").splits) == {"train", "test"}
