"""Audits of somebody's own training: a small DP-SGD in NumPy, right, and with each of five bugs."""

import textwrap

import pytest

from reticent.attacks import AttackOptions, audit_script
from reticent.errors import InputError

TRAINING = """
import numpy as np

MU, CANARIES, INDEPENDENT = 1.0, 1600, True
GROUPS = [k % 2 for k in range(CANARIES)]   # layer of each canary's coordinate
PATIENTS, SAMPLING_RATE, STEPS = 200, 0.1, 80


def clip(gradient):
    return gradient / max(1.0, np.abs(gradient).max())   # one coordinate each: its norm


def train(included, seed):
    '''One step on everybody; each canary is behind a foil with the opposite gradient, and has two images.'''
    rng = np.random.default_rng(seed)
    pushes = 10 ** rng.uniform(3, 7, CANARIES)
    total = np.zeros(CANARIES)
    for k in range(CANARIES):
        members = [-pushes[k] / 2] + [pushes[k]] * bool(included[k])
        total[k] = contribution(members)
    noise = rng.normal(size=CANARIES)
    return total + noise_of(noise, included.sum())


def contribution(members):
    return sum(clip_patient([push / 2, push / 2]) for push in members)


def clip_patient(images):
    return float(clip(np.array([sum(images)]))[0])


def noise_of(noise, batch):
    return noise


def batches(seed):
    rng = np.random.default_rng(seed)
    return [np.flatnonzero(rng.random(PATIENTS) < SAMPLING_RATE) for _ in range(STEPS)]
"""
BUGS = {
    "noise scaled by the batch": (
        "mu",
        """
        def noise_of(noise, batch):
            return noise / batch
        """,
    ),
    "noise missing on a parameter group": (
        "mu",
        """
        def noise_of(noise, batch):
            return np.where(np.array(GROUPS) == 1, 0.0, noise)
        """,
    ),
    "clipping of micro-batch means": (
        "mu",
        """
        def contribution(members):
            return float(clip(np.array([np.mean(members)]))[0])
        """,
    ),
    "images clipped separately": (
        "mu",
        """
        def clip_patient(images):
            return sum(float(clip(np.array([image]))[0]) for image in images)
        """,
    ),
    "shuffled batches": (
        "spread of the batches",
        """
        def batches(seed):
            rng = np.random.default_rng(seed)
            passes = [rng.permutation(PATIENTS) for _ in range(STEPS // 10)]
            return [batch for order in passes for batch in np.split(order, 10)]
        """,
    ),
}


@pytest.fixture
def audit(tmp_path):
    def audit(text, seed=1, **options):
        path = tmp_path / "own.py"
        path.write_text(textwrap.dedent(text))
        return {f.metric: f for f in audit_script(path, AttackOptions(seed=seed, **options))}

    return audit


def test_right_code_passes_and_the_bound_comes_close(audit):
    found = audit(TRAINING)
    assert not any(finding.exceeds for finding in found.values())
    assert 0.6 < found["mu"].value < 1
    assert found["mu"].guarantee.kind == "claimed"
    assert found["mu"].seed == 1


@pytest.mark.parametrize("bug", BUGS)
def test_each_bug_is_caught(audit, bug):
    detector, changed = BUGS[bug]
    found = audit(TRAINING + textwrap.dedent(changed))
    assert [metric for metric, finding in found.items() if finding.exceeds] == [detector]


def test_claims_of_epsilon_and_delta_in_one_run_of_canaries_that_may_interact(audit):
    game = """
        import numpy as np
        EPSILON, DELTA, CANARIES = {epsilon}, 1e-5, 1000
        def train(included, seed):
            return included + 0.2 * np.random.default_rng(seed).normal(size=len(included))
    """
    found = audit(game.format(epsilon=2.0))
    assert found["epsilon"].exceeds
    assert found["epsilon"].value > 2
    assert "of one run" in found["epsilon"].reading
    assert not audit(game.format(epsilon=40.0))["epsilon"].exceeds


def test_one_canary_in_many_runs(audit):
    found = audit(
        """
        import numpy as np
        MU, CANARIES, RUNS = 1.0, 1, 1500
        def train(included, seed):
            return included * 2.0 + np.random.default_rng(seed).normal(size=1)
        """
    )
    assert found["mu"].exceeds
    assert found["mu"].settings["runs"] == 1500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MU = 1.0", "define it as train"),
        ("def train(included, seed): ...", "MU, or EPSILON and DELTA"),
        ("MU, EPSILON, DELTA = 1, 1, 1e-5\ndef train(included, seed): ...", "MU, or EPSILON and DELTA"),
        ("EPSILON = 1.0\ndef train(included, seed): ...", "MU, or EPSILON and DELTA"),
        ("MU = -1\ndef train(included, seed): ...", "MU: Input should be greater than 0"),
        ("MU, RUNS = 1, 5\ndef train(included, seed): ...", "INDEPENDENT"),
        ("MU, GROUPS = 1, [1, 2]\ndef train(included, seed): ...", "GROUPS has 2 numbers for 1000"),
        ("MU = 1\ndef train(included, seed): return included\ndef batches(seed): ...", "PATIENTS"),
        ("MU = 1\ndef train(included, seed): return [1.0]", "scores of shape"),
        ("MU = 1\ndef train(included, seed): return [float('nan')] * 1000", "NaN"),
        ("MU = 1\ndef train(included, seed): raise KeyError('lost')", r"train\(\) ended with KeyError: 'lost'"),
        ("MU = 1\ndef train(included): ...", r"train\(\) ended with TypeError"),
        ("1 / 0", "ended with ZeroDivisionError"),
        (
            "MU, PATIENTS, SAMPLING_RATE = 1, 3, .5\ndef train(i, s): return 1.0 * i\ndef batches(s): return [[7]]",
            "outside 0 to 2",
        ),
    ],
)
def test_wrong_scripts_are_refused_with_the_reason(audit, text, message):
    with pytest.raises(InputError, match=message):
        audit(text)


def test_a_script_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        next(audit_script(tmp_path / "none.py", AttackOptions()))
