"""The methods of private learning beside each other on real data, at one guarantee a data set.

    .venv/bin/python benchmarks/methods.py ../shared/data benchmarks/results/methods.json [--only SET ...] [--jobs 2]

Every method gets the same search: three values of its learning rate (Langevin: of its temperature), one run each, the
best on the validation patients. The chosen value is run REPEATS times anew, and the table is the test split of those
runs, read once: mean and 95 % interval of Student, difference from the first method and interval of Welch. Opacus
(extra `benchmark`) is searched in the same way. Each run has its own noise; those of ours are ordinary ones of
`reticent sweep`, and campaigns of `reticent label` whose sheets are filled in from the truth.

What was done is kept beside OUT and goes on if interrupted. Methods that OUT has are not measured again, unless
`--methods NAME ...` names them; whatever is measured is merged into OUT, whose other rows stay. `--table` prints OUT's
tables and measures nothing. Of CIFAR-10, which is large, 300 images a class are trained on, at the default steps.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import methods_active
import methods_opacus
from methods_active import Labelling
from methods_data import cifar, hippocampus_slices, kermany, medmnist, pool
from methods_opacus import Peer
from methods_public import is_tuned, private_activations, tuned, with_weights
from methods_search import RATE, Row, Setting, Variant, run_trials, run_variants, search_and_repeat
from methods_table import markdown, merged, tables
from reticent.records import write_text

RATES = [3e-3, 1e-2, 3e-2]
TEMPERATURES = {"training.temperature": [0.01, 0.05, 0.2]}
Method = Variant | Peer | Labelling

GROUP_NORM = {"name": "resnet9", "arguments": {"width": 16, "scale_norm": False}}
RESNET: Variant = {"model": GROUP_NORM}
METHODS: dict[str, Method] = {
    "ResNet-9, GroupNorm": RESNET,
    "ResNet-9, ScaleNorm": {"model": {"name": "resnet9", "arguments": {"width": 16, "scale_norm": True}}},
    "ResNet-9, bias-aware 0.02": {**RESNET, "training": {"bias_aware": 0.02}},
    "SmoothNet W10D10": {"model": {"name": "smoothnet", "arguments": {"width": 1.0, "depth": 1.0}}},
    "default network": {},
    "default, no moving average": {"training": {"ema_decay": 0.0}},
    "default, 4 views": {"training": {"views": 4}},
    "default, no augmentation": {"training": {"augment": "none"}},
    "default, standardised weights": {"model": {"standardise_weights": True}},
    "default, automatic clipping": {"training": {"clipping": "automatic"}},
    "default, clipping by layer": {"training": {"clipping": "per-layer"}},
    "default, schedule chosen for 20 epochs": {"privacy": {"epochs": 20}},
    "default, Langevin": {"training": {"optimiser": "langevin"}, "grid": TEMPERATURES},
}
PARTS = {"all": "all", "last": "last layer", "lora": "LoRA", "biases": "biases"}
PUBLIC: dict[str, Method] = {
    f"{network}, public weights, {words}": tuned(model, part)
    for network, model in (("default", {}), ("ResNet-9", GROUP_NORM))
    for part, words in PARTS.items()
} | {
    "NeuralDP, default network (labels not covered)": private_activations({}),
    "NeuralDP, ResNet-9 (labels not covered)": private_activations(GROUP_NORM),
}
KSPACE: dict[str, Method] = {
    "complex, k-space": {"model": {"name": "complex"}},
    "complex, image": {"model": {"name": "complex", "arguments": {"domain": "image"}}},
    "default network": {},
}
OPACUS: dict[str, Method] = {f"Opacus, {name}": Peer(name) for name in ("plain CNN", "default network")}
BY_IMAGE: dict[str, Method] = {f"{name}, by image (weaker unit)": peer for name, peer in OPACUS.items()}
LABELS: dict[str, Method] = {
    "random": Labelling("random"),
    "random, naive schedule": Labelling("random", schedule="naive"),
    "random, all at once": Labelling("random", sizes=(sum(methods_active.SIZES),)),
    "entropy": Labelling("entropy"),
    "margin": Labelling("margin"),
    "bald": Labelling("bald"),
}
Source = Callable[[Path, Path], dict[str, Any]]


@dataclass(frozen=True)
class Bench:
    """One set. Differences are from the first of its methods."""

    source: Source
    epsilon: float
    delta: float
    methods: Mapping[str, Method]

    @property
    def privacy(self) -> dict[str, float]:
        return {"epsilon": self.epsilon, "delta": self.delta}


SETS = {
    "kermany": Bench(kermany, 8.0, 1e-4, METHODS | PUBLIC | BY_IMAGE),
    "pneumoniamnist": Bench(medmnist, 8.0, 1e-5, METHODS | PUBLIC | OPACUS),
    "pneumoniamnist, epsilon 1": Bench(medmnist, 1.0, 1e-5, {"default network": {}} | OPACUS),
    "cifar10": Bench(cifar, 8.0, 1e-5, METHODS | OPACUS),  # public weights are of the same photographs
    "hippocampus slices": Bench(hippocampus_slices, 8.0, 1e-3, KSPACE | BY_IMAGE),
    "pneumoniamnist, labelled in batches": Bench(pool, 8.0, 1e-5, LABELS),
}


def measure(
    setting: Setting, methods: Mapping[str, Method], data: Path
) -> Iterator[tuple[dict[str, list[Row]], dict[str, list[Row]]]]:
    """Rows of both stages, and of runs on public images by network: of all variants together, then of each peer."""
    variants = {name: method for name, method in methods.items() if isinstance(method, dict)}
    if variants:
        values = {name: next(iter(_grid(variant).values())) for name, variant in variants.items()}
        options = {name: next(iter(_grid(variant))) for name, variant in variants.items()}
        public: dict[str, list[Row]] = {}
        bare = {}
        for name, variant in variants.items():
            bare[name] = {key: value for key, value in variant.items() if key != "grid"}
            if is_tuned(variant):
                bare[name], pretrained = with_weights(bare[name], data, setting.folder)
                public |= pretrained
        yield search_and_repeat(options, values, partial(run_variants, setting, bare, options)), public
    for name, method in methods.items():
        if not isinstance(method, dict):
            module = methods_opacus if isinstance(method, Peer) else methods_active
            train = {name: module.trainer(setting, method)}
            yield search_and_repeat({name: RATE}, {name: RATES}, partial(run_trials, setting, train)), {}


def _grid(variant: Variant) -> dict[str, list[float]]:
    return variant.get("grid", {RATE: RATES})


def main() -> None:
    """Measure what is asked for, merge it into OUT after each part, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=sorted(SETS), default=list(SETS), metavar="SET")
    parser.add_argument("--methods", nargs="*", default=[], metavar="NAME", help="only these, also if OUT has them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--table", action="store_true", help="print OUT's tables, measure nothing")
    options = parser.parse_args()
    known = dict.fromkeys(name for key in options.only for name in SETS[key].methods)
    if unknown := [name for name in options.methods if name not in known]:
        parser.error(f"--methods: {unknown[0]!r} is none of {', '.join(map(repr, known))}")
    found = json.loads(options.out.read_text()) if options.out.exists() else []
    stored = {row["set"]: row for row in found}
    for name in options.only:
        if not options.table:
            _update(name, stored, options)
        if name in stored:
            print(f"\n{name}, {SETS[name].privacy}\n\n{markdown(stored[name])}", flush=True)


def _update(name: str, stored: dict[str, Any], options: argparse.Namespace) -> None:
    """Measure methods of a set and write OUT after each part of them."""
    bench, folder = SETS[name], options.out.with_suffix("")
    old = stored.get(name, {})
    measured = {row["variant"] for row in old.get("final", [])}
    wanted = options.methods or [method for method in bench.methods if method not in measured]
    chosen = {key: method for key, method in bench.methods.items() if key in wanted}
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(name, bench.source(options.data, folder), bench.privacy, folder, options.jobs)
    for rows, public in measure(setting, chosen, options.data):
        old = stored.get(name, {})
        both = merged(old, rows, list(bench.methods))
        stored[name] = {
            "set": name,
            "privacy": bench.privacy,
            "tables": tables(both["final"], next(iter(bench.methods))),
            **both,
            "public": old.get("public", {}) | public,
        }
        write_text(options.out, json.dumps(list(stored.values()), indent=1) + "\n")


if __name__ == "__main__":
    main()
