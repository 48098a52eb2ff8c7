"""An audit of somebody's own private training: a Python file that trains with canaries and returns their scores.

```python
MU = 1.0                # what the code claims; or EPSILON and DELTA
CANARIES = 1000         # each is in or out by a fair coin

def train(included, seed):
    '''Train with the canaries that `included` (bool, (CANARIES,)) names; one score each, higher: more likely in.'''
```

Optional: `INDEPENDENT = True` if no canary can influence another's score (orthogonal gradients, noise of its own): it
makes the test far sharper; `RUNS` trainings with fresh seeds (with one canary each their scores are independent);
`GROUPS`, a number for each canary, where each group is to be tested by itself too (a group for each layer, say).

`batches(seed)`, with `PATIENTS` and `SAMPLING_RATE`, returns the indices of those who take part in each step, and has
them tested for Poisson sampling.
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reticent.attacks.auditing import independent_bounds
from reticent.attacks.auditing.one_run_bounds import (
    Guesses,
    epsilon_at,
    epsilon_p_value,
    guess,
    guesses_for,
    mu_at,
    mu_p_value,
)
from reticent.attacks.auditing.sampling_law import sampling_law
from reticent.attacks.loaded_run import fresh_seed
from reticent.attacks.options import AttackOptions
from reticent.errors import InputError, first_line
from reticent.records import Finding, Interval, Number

Scores = NDArray[np.float64]
_EXPECTED_MU = 2.0
_NAMES = (
    "MU", "EPSILON", "DELTA", "CANARIES", "RUNS", "INDEPENDENT", "GROUPS", "PATIENTS", "SAMPLING_RATE", "train",
    "batches",
)  # fmt: skip


class Script(BaseModel):
    """What a file defines, validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    MU: Annotated[float, Field(gt=0)] | None = None
    EPSILON: Annotated[float, Field(gt=0)] | None = None
    DELTA: Annotated[float, Field(ge=0, lt=1)] | None = None
    CANARIES: Annotated[int, Field(ge=1)] = 1000
    RUNS: Annotated[int, Field(ge=1)] = 1
    INDEPENDENT: bool = False
    GROUPS: list[int] | None = None
    PATIENTS: Annotated[int, Field(ge=1)] | None = None
    SAMPLING_RATE: Annotated[float, Field(gt=0, le=1)] | None = None
    train: Callable[..., Any]
    batches: Callable[..., Any] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.MU is None) == (self.EPSILON is None) or (self.EPSILON is None) != (self.DELTA is None):
            raise ValueError("claims either MU, or EPSILON and DELTA: define one of them")
        if self.RUNS > 1 and not self.independent:
            raise ValueError(
                "several RUNS of several canaries say more only if these are INDEPENDENT: set it, or 1 RUN"
            )
        if self.GROUPS is not None and len(self.GROUPS) != self.CANARIES:
            raise ValueError(f"GROUPS has {len(self.GROUPS)} numbers for {self.CANARIES} canaries")
        if self.batches is not None and (self.PATIENTS is None or self.SAMPLING_RATE is None):
            raise ValueError("batches() is tested against PATIENTS and SAMPLING_RATE: define both")
        return self

    @property
    def independent(self) -> bool:
        """Whether scores do not depend on other canaries."""
        return self.INDEPENDENT or self.CANARIES == 1


def read_script(path: Path) -> Script:
    """Run the file and take its definitions.

    Raises:
        InputError: it cannot be run, or defines something else than this module describes.
    """
    try:
        found = runpy.run_path(str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # whatever the user's code may raise
        raise InputError(f"{path}: ended with {type(error).__name__}: {first_line(error)}") from error
    try:
        return Script(**{name: found[name] for name in _NAMES if name in found})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        missing = "define it as train(included, seed)" if where == "train" else first["msg"]
        raise InputError(f"{path}: {where + ': ' if where else ''}{missing.removeprefix('Value error, ')}") from None


def audit_script(path: Path, options: AttackOptions) -> Iterator[Finding]:
    """Findings about the code that a file defines: a lower bound on what it claims, and the test of its batches.

    Raises:
        InputError: see `read_script`; or its functions fail or return something else.
    """
    script, seed = read_script(path), options.seed if options.seed is not None else fresh_seed()
    tests = 1 + (script.batches is not None)
    common: dict[str, Any] = {"attack": "script", "seed": seed}
    began = time.perf_counter()
    included, scores = _play(path, script, seed)
    value, p_value, made = _bound(script, included, scores, 1 - options.confidence, seed)
    metric, claimed = ("mu", script.MU) if script.MU is not None else ("epsilon", script.EPSILON)
    proven = "an attack on independent canaries" if script.independent else "guesses about the canaries of one run"
    yield Finding(
        **common,
        asset="membership of a canary",
        adversary="whoever the script's scores stand for",
        metric=metric,
        value=value,
        interval=Interval(lower=value, upper=None, confidence=options.confidence),
        baseline=0.0,
        kind="empirical lower bound",
        guarantee=Number(lower=0.0, upper=claimed, kind="claimed", delta=script.DELTA),
        p_value=min(1.0, tests * p_value),
        reading=f"{proven.capitalize()} prove{'s' * script.independent} {metric} >= {value:.4g}; {path.name} claims at "
        f"most {claimed:g}.",
        left_out=("what another attack could show: that nothing was found proves no privacy",),
        settings={"script": path.name, "canaries": script.CANARIES, "runs": script.RUNS, **made},
        seconds=time.perf_counter() - began,
    )
    if script.batches is not None:
        yield _batches(path, script, seed, tests, options.confidence, common)


def _play(path: Path, script: Script, seed: int) -> tuple[NDArray[np.bool_], Scores]:
    """Who was in and the scores, (runs, canaries) each."""
    included = np.random.default_rng(seed).random((script.RUNS, script.CANARIES)) < 0.5
    scores = np.empty(included.shape)
    for run, own in enumerate(included):
        found = _called(path, "train", partial(_numbers, script.train, own.copy(), seed + run))
        if found.shape != own.shape:
            raise InputError(f"{path}: train() returned scores of shape {found.shape} for {script.CANARIES} canaries")
        scores[run] = found
    return included, scores


def _bound(
    script: Script, included: NDArray[np.bool_], scores: Scores, level: float, seed: int
) -> tuple[float, float, dict[str, Any]]:
    """Lower bound, p-value of the claim, and what it rests on; of all canaries and of each group, the strongest."""
    numbers = np.array(script.GROUPS or [])
    groups = [np.ones(script.CANARIES, bool), *(numbers == number for number in np.unique(numbers))]
    test = _independent if script.independent else _one_run
    found = [
        test(script, scores[:, own][included[:, own]], scores[:, own][~included[:, own]], level / len(groups), seed)
        for own in groups
    ]
    strongest = min(found, key=lambda one: (one[1], -one[0]))
    return max(value for value, _, _ in found), min(1.0, len(groups) * strongest[1]), strongest[2]


def _independent(
    script: Script, inside: Scores, outside: Scores, level: float, seed: int
) -> tuple[float, float, dict[str, Any]]:
    errors = independent_bounds.errors_on_half(inside, outside, seed)
    rates = {"false alarms": f"{errors.false_alarms} of {errors.outs}", "misses": f"{errors.misses} of {errors.ins}"}
    if script.MU is not None:
        return independent_bounds.mu_at(errors, level), independent_bounds.mu_p_value(errors, script.MU), rates
    epsilon, delta = script.EPSILON or 0.0, script.DELTA or 0.0
    value = independent_bounds.epsilon_at(errors, delta, level)
    return value, independent_bounds.epsilon_p_value(errors, epsilon, delta), rates


def _one_run(
    script: Script, inside: Scores, outside: Scores, level: float, seed: int
) -> tuple[float, float, dict[str, Any]]:
    mu, delta = script.MU, script.DELTA or 0.0

    def bound(guesses: Guesses) -> float:
        return mu_at(guesses, level) if mu is not None else epsilon_at(guesses, delta, level)

    each = guesses_for(len(inside) + len(outside), mu or _EXPECTED_MU, bound)
    guesses = guess(inside, outside, each, seed)
    p_value = mu_p_value(guesses, mu) if mu is not None else epsilon_p_value(guesses, script.EPSILON or 0.0, delta)
    return bound(guesses), p_value, {"guesses": guesses.made, "right": guesses.right}


def _batches(path: Path, script: Script, seed: int, tests: int, confidence: float, common: dict[str, Any]) -> Finding:
    began, draw = time.perf_counter(), script.batches
    assert draw is not None
    assert script.PATIENTS is not None
    assert script.SAMPLING_RATE is not None
    drawn = _called(path, "batches", lambda: [np.asarray(batch, np.int64) for batch in draw(seed)])
    if any(((batch < 0) | (batch >= script.PATIENTS)).any() for batch in drawn):
        raise InputError(f"{path}: batches() names patients outside 0 to {script.PATIENTS - 1}")
    taken = np.zeros((len(drawn), script.PATIENTS), bool)
    for step, batch in enumerate(drawn):
        taken[step, batch] = True
    law = sampling_law(taken, script.SAMPLING_RATE, confidence=confidence)
    return Finding(
        **common,
        asset="drawing of batches",
        adversary="none; whether the code does what is accounted for is tested",
        metric="spread of the batches",
        value=law.oddest.value,
        interval=Interval(lower=law.oddest.interval[0], upper=law.oddest.interval[1], confidence=confidence),
        kind="estimate",
        guarantee=Number(lower=1.0, upper=1.0, kind="claimed"),
        p_value=min(1.0, tests * law.p_value),
        reading=f"Batch sizes vary {law.sizes.value:.3g} times, and how often a patient takes part "
        f"{law.participations.value:.3g} "
        "times as much as under Poisson sampling.",
        settings={"script": path.name, "steps": len(drawn), "patients": script.PATIENTS},
        seconds=time.perf_counter() - began,
    )


def _numbers(train: Callable[..., Any], included: NDArray[np.bool_], seed: int) -> Scores:
    return np.asarray(train(included, seed), np.float64)


def _called(path: Path, name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # whatever the user's code may raise
        raise InputError(f"{path}: {name}() ended with {type(error).__name__}: {first_line(error)}") from error
