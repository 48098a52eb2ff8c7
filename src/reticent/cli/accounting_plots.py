"""Plots of the accounting commands: ROC on both scales, privacy profile, excess vulnerability, risk corridor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reticent.errors import InputError, first_line

if TYPE_CHECKING:
    from reticent.accounting import PrivacyProfile, RiskCorridor

COLOURS = ("#1f5f8b", "#c2571a", "#3b7d3b", "#7a4b94", "#8b6f1f", "#444444")
POINTS = 200


def plot_profiles(profiles: Mapping[str, PrivacyProfile], path: Path) -> None:
    """Guaranteed ROC on linear and logarithmic scales, and delta over epsilon, of one or several profiles."""
    figure, (linear, logarithmic, delta) = _figure(3)
    small = np.geomspace(1e-10, 1, POINTS)
    wide = np.unique(np.concatenate([small, np.linspace(0, 1, POINTS)]))
    reach = min(50.0, max(profile.epsilon(1e-10).upper for profile in profiles.values()))
    epsilons = np.linspace(0, max(reach, 1e-6), POINTS)
    for (name, profile), colour in zip(profiles.items(), COLOURS, strict=False):
        linear.plot(wide, [point.upper for point in profile.power(wide)], color=colour, label=name)
        logarithmic.loglog(small, [point.upper for point in profile.power(small)], color=colour)
        delta.semilogy(epsilons, np.maximum(profile.bounds(epsilons)[1], 1e-12), color=colour)
    for axes, alphas in ((linear, wide), (logarithmic, small)):
        axes.plot(alphas, alphas, color="#999999", linestyle="--", linewidth=1)
        axes.set_xlabel("false-positive rate")
    linear.set_ylabel("true-positive rate, at most")
    delta.set_xlabel("epsilon")
    delta.set_ylabel("delta, at most")
    delta.set_ylim(1e-11, 1.5)
    if len(profiles) > 1:
        linear.legend(frameon=False)
    _save(figure, path)


def plot_comparison(profiles: Mapping[str, PrivacyProfile], path: Path) -> None:
    """Both ROC curves, and by how much more often the attacker decides rightly under the second, over all priors."""
    (first_name, first), (second_name, second) = profiles.items()
    figure, (linear, excess) = _figure(2)
    alphas = np.unique(np.concatenate([np.geomspace(1e-6, 1, POINTS), np.linspace(0, 1, POINTS)]))
    for (name, profile), colour in zip(profiles.items(), COLOURS, strict=False):
        linear.plot(alphas, [point.upper for point in profile.power(alphas)], color=colour, label=name)
    linear.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1)
    linear.set_xlabel("false-positive rate")
    linear.set_ylabel("true-positive rate, at most")
    linear.legend(frameon=False)
    priors = np.linspace(0.001, 0.999, 2 * POINTS + 1)
    epsilons = np.abs(np.log(priors / (1 - priors)))
    order = np.argsort(epsilons)
    deltas = np.empty((2, len(priors)))
    for row, profile in enumerate((first, second)):
        deltas[row, order] = profile.bounds(epsilons[order])[1]
    excess.plot(priors, 100 * (deltas[1] - deltas[0]) / (1 + np.exp(epsilons)), color=COLOURS[1])
    excess.axhline(0, color="#999999", linewidth=1)
    excess.set_xlabel("prior probability of no member")
    excess.set_ylabel(f"percentage points that {second_name} adds\nto the best attacker's success")
    excess.set_title(f"{second_name} instead of {first_name}", fontsize=9)
    _save(figure, path)


def plot_corridor(corridor: RiskCorridor, path: Path) -> None:
    """Noise below which reconstruction succeeds: from scratch by error, by identification as level lines."""
    figure, (axes,) = _figure(1)
    errors = [row.eta for row in corridor.rows]
    unbiased, shrunk = (
        [getattr(row, name) for row in corridor.rows] for name in ("sigma_from_scratch", "sigma_shrinkage")
    )
    axes.loglog(errors, unbiased, color=COLOURS[0], label="from scratch, best unbiased attack")
    axes.loglog(errors, shrunk, color=COLOURS[2], linestyle="--", label="from scratch, knowing the image's norm")
    axes.loglog(
        errors, [row.sigma_identification for row in corridor.rows], color=COLOURS[1], label="identification, bound"
    )
    axes.set_xlabel("mean squared error that counts as a success")
    axes.set_ylabel("noise multiplier")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    _save(figure, path)


def _figure(panels: int) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.3 * panels, 3.8), layout="constrained")
    return figure, [figure.add_subplot(1, panels, panel + 1) for panel in range(panels)]


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=150)
    except (ValueError, OSError) as error:
        raise InputError(
            f"--plot {path}: {first_line(error)}; name a .png, .svg or .pdf in a folder that exists"
        ) from None
