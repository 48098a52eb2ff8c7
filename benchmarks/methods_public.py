"""Public first weights for `methods.py`: networks trained without privacy on photographs, once for a working folder.

CIFAR-10 shares no source with the radiographs and MR volumes that they are then tuned on.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from methods_data import photographs
from methods_search import Row, Variant, show
from reticent.records import make_sweep
from reticent.training import run_sweep

ORIGIN = "CIFAR-10 in grey (a subset of 9,000 images), trained without privacy"
TRAINING = {
    "privacy": {"non_private": True, "sampling_rate": 0.05, "steps": 400},
    "training": {"learning_rate": 3e-3},
}


def tuned(model: dict[str, Any], fine_tune: str) -> Variant:
    """A network that starts at its public weights, of which a part is trained; in grey, as those were."""
    return {"cohort": {"grey": True}, "model": {**model, "init_origin": ORIGIN, "fine_tune": fine_tune}}


def private_activations(model: dict[str, Any]) -> Variant:
    """A head on features that a public network gives and that leave with noise; labels are not covered."""
    return {**tuned(model, "all"), "privacy": {"private_activations": True}}


def is_tuned(variant: Variant) -> bool:
    return "init_origin" in variant.get("model", {})


def with_weights(variant: Variant, data: Path, folder: Path) -> tuple[Variant, dict[str, list[Row]]]:
    """The variant with the file of its public weights, and the rows of the run on photographs, by network."""
    model = {name: value for name, value in variant["model"].items() if name not in ("init_origin", "fine_tune")}
    name = model.get("name", "default")
    out, weights = folder / f"public {name}", folder / f"public-{name}.safetensors"
    values = {"cohort": photographs(data, folder), "model": model, **TRAINING}
    sweep = make_sweep(values, "methods.py", {}, 1)
    ledger, progress = folder / "public.sqlite", partial(show, out.name)
    frame = run_sweep(sweep, out, ledger=ledger, jobs=1, backend="loky", progress=progress)
    if not weights.exists():  # a copy: beside a statement that they are not private they would be refused
        aside = weights.with_suffix(".partial")
        shutil.copyfile(out / "runs" / "000-0" / "release" / "model.safetensors", aside)
        aside.replace(weights)
    rows = json.loads(frame.to_json(orient="records"))
    return {**variant, "model": {**variant["model"], "init_from": str(weights)}}, {name: rows}
