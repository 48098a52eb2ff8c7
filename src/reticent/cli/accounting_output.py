"""What `account`, `calibrate`, `compare` and `risk` print: JSON objects and tables of the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reticent.cli.console import console

if TYPE_CHECKING:
    from reticent.accounting import Certified, Estimate, Mechanism, PrivacyProfile

ALPHAS = (1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.25, 0.5)


def numbers(
    mechanism: Mechanism,
    profile: PrivacyProfile,
    *,
    delta: float = 1e-5,
    epsilon: float = 1.0,
    eta: float = 1e-10,
    prior: float = 1e-4,
    alphas: Sequence[float] = ALPHAS,
) -> dict[str, Any]:
    """All numbers of one profile as a JSON object; each has `lower`, `upper` and `kind`."""
    from reticent.accounting import gdp_statement

    gdp = gdp_statement(profile, eta)
    reason = getattr(profile, "reason", None)
    return {
        "mechanism": mechanism.to_dict(),
        "neighbouring_relation": mechanism.neighbouring_relation,
        "sampling": mechanism.sampling,
        "unit": mechanism.unit,
        **({"reason": reason} if reason else {}),
        "epsilon": profile.epsilon(delta).to_dict() | {"delta": delta},
        "delta": profile.delta(epsilon).to_dict() | {"epsilon": epsilon},
        "mu": profile.mu(1e-10).to_dict() | {"alpha_min": 1e-10},
        "gdp": {
            "mu": gdp.mu.to_dict(),
            "eta": eta,
            "regret": gdp.regret.to_dict(),
            "fits": gdp.fits,
            "sentence": gdp.sentence(mechanism.neighbouring_relation),
        },
        "advantage": profile.advantage().to_dict(),
        "tradeoff": [
            {"alpha": alpha, "beta": beta.to_dict()}
            for alpha, beta in zip(alphas, profile.tradeoff(alphas), strict=True)
        ],
        "reconstruction": profile.reconstruction(prior).to_dict() | {"prior": prior},
    }


def print_numbers(found: Mapping[str, Any], title: str) -> None:
    """The same as a table for people: bounds rounded to the safe side."""
    from rich.table import Table

    if "reason" in found:
        console.print(f"No certified bound: {found['reason']}.", highlight=False, markup=False)
        return
    table = Table("quantity", "bound", "kind", "bracket", title=title, title_justify="left")
    for name, value in (
        (f"epsilon at delta = {found['epsilon']['delta']:g}", found["epsilon"]),
        (f"delta at epsilon = {found['delta']['epsilon']:g}", found["delta"]),
        ("mu, both error rates >= 1e-10", found["mu"]),
        (f"mu, down to delta = {found['gdp']['eta']:g}", found["gdp"]["mu"]),
        ("membership advantage", found["advantage"]),
        (f"reconstruction from prior {found['reconstruction']['prior']:g}", found["reconstruction"]),
    ):
        table.add_row(name, *_cells(value))
    console.print(table)
    curve = Table("false alarms", "members missed", "kind", "bracket", title="Every attack", title_justify="left")
    for point in found["tradeoff"]:
        curve.add_row(f"{point['alpha']:g}", *_cells(point["beta"]))
    console.print(curve)
    console.print(
        f"Neighbours: {found['neighbouring_relation']}; sampling: {found['sampling']}; unit: {found['unit']}.",
        highlight=False,
    )
    console.print(found["gdp"]["sentence"], highlight=False, markup=False)


def text_of(value: Certified | Estimate) -> str:
    """A number for a table, with its kind where it is no bound."""
    return str(value) if value.to_dict()["kind"] != "unbounded" else "unbounded"


def _cells(value: Mapping[str, Any]) -> tuple[str, str, str]:
    from reticent.accounting import Certified

    if value["upper"] is None:
        return "unbounded", value["kind"], ""
    bound = str(Certified(value["lower"], value["upper"], "lower" if value["kind"] == "lower bound" else "upper"))
    width = value["upper"] - value["lower"]
    return bound, value["kind"], "" if width == 0 or math.isinf(width) else f"width {width:.1e}"
