"""Findings of reconstruction attacks: what was rebuilt, beside what a guess that saw nothing gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.stats import binom
from torch import Tensor

from reticent.accounting import Certified
from reticent.attacks.loaded_run import LoadedRun
from reticent.attacks.reconstruction.comparison import Compared, share
from reticent.records import Finding, Number


def asset(run: LoadedRun) -> str:
    """What is attacked."""
    return "image of a patient" if run.study.cohort.unit == "subject" else "image"


def likeness(
    compared: Compared, common: Mapping[str, Any], what: str, guess: str = "the mean image", further: str = ""
) -> Finding:
    """How much the reconstructions resemble the images, beside a guess.

    Args:
        what: whose reconstructions, for the sentence: "The images rebuilt from one noisy step".
        further: sentences to add.
    """
    gain = compared.gain_interval
    verdict = (
        f"more than {guess} does: they show something of the patients' own"
        if compared.beats_baseline
        else f"no more than {guess} does: by this measure they show nothing of the patients' own"
    )
    told = {"gain over the guess": compared.gain, "interval of the gain": [gain.lower, gain.upper]}
    return Finding(
        **{**common, "settings": {**common["settings"], **told}},
        metric=compared.metric,
        value=compared.value,
        interval=compared.interval,
        baseline=compared.baseline,
        kind="estimate",
        reading=f"{what} resemble the originals ({compared.metric} {compared.value:.3g}; {guess} "
        f"{compared.baseline:.3g}) {verdict}.{further}",
    )


def rate(
    metric: str,
    hits: Tensor,
    common: Mapping[str, Any],
    *,
    confidence: float,
    baseline: float,
    reading: str,
    guarantee: Certified | None = None,
    tests: int = 1,
    further: str = "",
) -> Finding:
    """A share of hits with its Clopper-Pearson interval, and its binomial p-value under the guarantee.

    Args:
        reading: what was done, for the sentence "... in 5 % of cases"; `further` sentences are added.
    """
    value, interval = share(hits, confidence)
    p_value = None
    if guarantee is not None:
        p_value = min(1.0, tests * float(binom.sf(int(hits.sum()) - 1, len(hits), min(1.0, guarantee.upper))))
    limit = "" if guarantee is None else f"; no attack of this kind can do so in more than {percent(guarantee.upper)}"
    return Finding(
        **common,
        metric=metric,
        value=value,
        interval=interval,
        baseline=baseline,
        kind="estimate",
        guarantee=None if guarantee is None else Number.of(guarantee),
        p_value=p_value,
        reading=f"{reading} in {percent(value)} of cases ({percent(interval.lower)} to "
        f"{percent(interval.upper or 1.0)}); {percent(baseline)} would be found without looking{limit}.{further}",
    )


def percent(value: float) -> str:
    """Of a share: "5.12 %"."""
    return f"{100 * value:.3g} %"
