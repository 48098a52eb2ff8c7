"""Numbers, kinds and names in the words of the report; everything is rounded to the safe side or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from reticent.records import Finding, Measured, Number, PrivacyStatement
from reticent.records.statement import round_up

METRIC_NAMES = {
    "auroc": "AUROC",
    "balanced_accuracy": "Balanced accuracy",
    "matthews": "Matthews correlation",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "map": "mAP, IoU 0.5 to 0.95",
    "ap": "AP, IoU 0.5 to 0.95",
    "ap50": "AP at IoU 0.5",
    "counting_area": "Counting area (boxes not looked at)",
    "count_error": "Count error, objects an image",
    "exactly_right": "Images counted exactly",
    "dice": "Dice",
    "hd95": "Hausdorff distance, 95 %",
    "mse": "Mean squared error",
}
OF_TARGETS = {
    "r2": "R²",
    "mae": "Mean absolute error",
    "bias": "Bias",
    "lower_limit": "Lower limit of agreement",
    "upper_limit": "Upper limit of agreement",
}
"""Of numbers that are predicted: by themselves, or behind the name of a target."""
ATTACK_RATES = (0.001, 0.01, 0.1)
"""False-alarm rates at which the report says what the best attack finds."""


@dataclass(frozen=True)
class Verdict:
    """Whether the model may leave on the strength of its guarantee, and why."""

    releasable: bool
    line: str
    reason: str


def verdict(statement: PrivacyStatement, findings: Iterable[Finding] = ()) -> Verdict:
    """The first line of the report; a finding that contradicts the guarantee comes before everything else."""
    if broken := next((finding for finding in findings if finding.exceeds), None):
        return Verdict(
            False,
            "Do not release: an audit contradicts the guarantee",
            f"The attack “{broken.attack}” showed more than the guarantee admits (see “What attacks recovered”): what "
            "ran is not what was accounted for.",
        )
    if statement.releasable and statement.excludes_little:
        return Verdict(
            False,
            "Not on the strength of the guarantee: it excludes next to nothing",
            f"Epsilon {number(statement.epsilon)} at delta = {statement.delta:g} admits an attack that is hardly ever "
            "wrong about who took part. What audits did not find, nobody has proven impossible; whether to release all "
            "the same is for the institution to decide.",
        )
    if statement.releasable:
        return Verdict(
            True,
            "Releasable under the guarantee below",
            "The contents of release/ carry it, and nothing else of this run does. Whether epsilon "
            f"{number(statement.epsilon)} at delta = {statement.delta:g} is strong enough "
            "is for the institution to decide.",
        )
    if statement.epsilon.kind == "unbounded":
        reason = "The model was trained without differential privacy; nothing bounds what it reveals."
    else:
        reason = "The noise came from a seeded source; whoever knows the seed can take it away again."
    return Verdict(False, "Not releasable", reason)


def number(value: Number) -> str:
    """A figure with the sign of its kind: "= 2", "≤ 7.993", "≈ 3.1", "unbounded"."""
    if value.kind == "unbounded":
        return "unbounded"
    if value.kind == "estimate":
        return f"≈ {value.value:.4g}"
    return f"{'=' if value.kind == 'exact' else '≤'} {value}"


def kind(value: Number) -> str:
    """The kind, with the proven lower end of a bound."""
    if value.kind in ("exact", "estimate", "unbounded") or not value.lower:
        return value.kind
    return f"{value.kind}; at least {-round_up(-value.lower, 3):g}"


def sampling(scheme: str, unit: Literal["patient", "record"]) -> str:
    """How the batches were drawn; schemes without a description are named as they are."""
    if scheme == "poisson":
        return f"Poisson: every {unit} is drawn independently at each step"
    if scheme == "cyclic-poisson":
        return f"Cyclic Poisson: {unit}s take turns in groups; every {unit} is drawn independently at its group's turns"
    return scheme


@dataclass(frozen=True)
class AttackRate:
    """At a false-alarm rate, the most that any attack can find, both in per cent."""

    false_alarms: str
    found: str


def attack_rates(statement: PrivacyStatement) -> tuple[AttackRate, ...]:
    """What the best attack finds at false-alarm rates of 0.1 %, 1 % and 10 %, where that is certified."""
    certified = {f"{alpha:.6g}": beta for alpha, beta in statement.tradeoff if beta is not None}
    rates = [(alpha, certified[f"{alpha:.6g}"]) for alpha in ATTACK_RATES if f"{alpha:.6g}" in certified]
    return tuple(AttackRate(f"{100 * alpha:g} %", f"{round_up(100 * (1 - beta), 3):g} %") for alpha, beta in rates)


def metric_name(name: str) -> str:
    """The name as a reader knows it; unknown ones are spelt out."""
    target, _, own = name.rpartition(" ")
    if own in OF_TARGETS:
        return f"{target}: {OF_TARGETS[own]}" if target else OF_TARGETS[own]
    return METRIC_NAMES.get(name, name.replace("_", " ").capitalize())


def measured(value: Measured | None, name: str) -> str:
    """The value alone; distances with one decimal, errors in physical units with four digits, the rest with three."""
    if value is None or value.value is None:
        return "not shown"
    return _decimals(value.value, name)


def interval(value: Measured | None, name: str) -> str:
    """The interval as "0.912 to 0.957"; empty if there is none."""
    if value is None or value.lower is None or value.upper is None:
        return ""
    return f"{_decimals(value.lower, name)} to {_decimals(value.upper, name)}"


def achieved(finding: Finding) -> str:
    """What an attack achieved: "≥ 1.83 (95 %)" of a lower bound, else the value with its interval."""
    value, interval = f"{finding.value:.4g}", finding.interval
    if finding.kind == "empirical lower bound":
        confidence = f" ({100 * interval.confidence:g} %)" if interval else ""
        return f"≥ {-round_up(-finding.value):g}{confidence}"
    if interval is None:
        return value
    upper = "" if interval.upper is None else f" to {interval.upper:.3g}"
    return f"{value} ({interval.lower:.3g}{upper})"


def guaranteed(finding: Finding) -> str:
    """The guarantee in the same metric, with the sign of its kind; empty if there is none."""
    if finding.guarantee is None:
        return ""
    return number(finding.guarantee)


def plain(value: object) -> str:
    """A setting or a baseline: four digits of a number, yes or no, anything else as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counted(count: int, unit: Literal["patient", "record"]) -> str:
    """A count with its noun."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def _decimals(value: float, name: str) -> str:
    own = name.rpartition(" ")[2]
    if own in OF_TARGETS and own != "r2":
        return f"{value:.4g}"
    return f"{value:.{1 if name == 'hd95' else 3}f}"
