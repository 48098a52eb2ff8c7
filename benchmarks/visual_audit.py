"""What a prior makes of noise on chest X-rays: reconstruction and re-identification over a range of noise.

    .venv/bin/python benchmarks/visual_audit.py ../shared/data benchmarks/results/visual_audit.json [--picture PNG]

Attacked are 71 patients of Hannover (one image each), of Kermany's X-rays, and 71 test images of PneumoniaMNIST, all at
28 x 28, seen once under noise after clipping. The attacker's priors are fitted on the 4,708 training images of
PneumoniaMNIST (another hospital's for the first set), or, closed form alone, on those of BreastMNIST (ultrasound).

Priors and finished parts are kept beside OUT: the same command goes on. `--table` prints OUT's tables and measures
nothing. Training the diffusion prior takes about eight CPU-minutes, the rest three.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reticent.accounting import FromScratchAttack
from reticent.attacks.reconstruction.comparison import compared, share
from reticent.attacks.reconstruction.matching import reidentified
from reticent.attacks.reconstruction.priors import DiffusionPrior, EmpiricalPrior, GaussianPrior, Mode, Prior
from reticent.attacks.reconstruction.scores import mse
from reticent.attacks.reconstruction.visual import METRICS, Level, VisualAudit, visual_audit
from reticent.attacks.reconstruction.visual_grid import save_visual_grid
from reticent.data import Cohort, Preprocessing, open_cohort
from reticent.records import read_json, write_json

SIZE = (28, 28)
PATIENTS = 71
SIGMAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
BOX = (-2.0, 2.0)
CLOSE = 0.005
"""Mean squared error from which down an image counts as reconstructed."""
SEED = 1
MODES: dict[str, Mode] = {"diffusion, one image": "ddim", "diffusion, a draw": "sample"}


@dataclass(frozen=True)
class Pair:
    """Attacked images and the prior's, and what their sources have in common."""

    targets: str
    public: str
    relation: str
    diffusion: bool = True
    """Whether a diffusion prior is tried too."""
    modes: bool = False
    """Whether its sharp images and draws are."""


PAIRS = (
    Pair("hannover", "pneumoniamnist", "other hospital, country and age", modes=True),
    Pair("pneumoniamnist", "pneumoniamnist", "same hospital, published test split"),
    Pair("kermany", "pneumoniamnist", "overlap: PneumoniaMNIST was made from the set that these patients are of"),
    Pair("hannover", "breastmnist", "other organ and modality", diffusion=False),
)


def opened(data: Path, name: str) -> Cohort:
    """A set by name."""
    if name.endswith("mnist"):
        return open_cohort(str(data / "medmnist" / f"{name}.npz"), unit="record")
    if name == "kermany":
        return open_cohort(str(data / "kermany_cxr" / "manifest.csv"))
    return open_cohort(
        str(data / "hannover_covid_cxr" / "data.csv"), columns={"file": "image_id"}, labels=("sex",)
    )  # fmt: skip


def images(cohort: Cohort, rows: list[int]) -> Tensor:
    """As the product feeds them to a network, (n, 1, 28, 28) in [-2, 2]."""
    preprocessing = Preprocessing(SIZE, "scale", 1)
    loaded = [next(iter(preprocessing.apply(cohort.load(row)).inputs.values())) for row in rows]
    return torch.from_numpy(np.stack(loaded))


def attacked(data: Path, name: str) -> Tensor:
    """One image of each of 71 patients, drawn at random; of a set without patients, of its test split."""
    cohort, rng = opened(data, name), np.random.default_rng(SEED)
    own: dict[str, list[int]] = {}
    for row, entry in enumerate(cohort.entries):
        if not name.endswith("mnist") or entry.split == "test":
            own.setdefault(entry.subject, []).append(row)
    chosen = rng.permutation(list(own))[:PATIENTS]
    return images(cohort, [int(rng.choice(own[subject])) for subject in chosen])


def public(data: Path, name: str) -> Tensor:
    """Training images of a set, in [0, 1]."""
    cohort = opened(data, name)
    fed = images(cohort, [row for row, entry in enumerate(cohort.entries) if entry.split == "train"])
    return ((fed - BOX[0]) / (BOX[1] - BOX[0])).clamp(0, 1)


def trained(known: Tensor, name: str, folder: Path) -> DiffusionPrior:
    """The diffusion prior, as it is kept in the folder; beside it the CPU-seconds of all its iterations."""
    kept, began, seen = folder / f"{name}.safetensors", time.process_time(), list[int]()

    def said(done: int, total: int) -> None:
        seen.append(done)
        if done % 250 == 0:
            print(f"  {done} of {total} iterations", flush=True)

    if not kept.is_file():
        prior = DiffusionPrior.fit(known, name, seed=SEED, checkpoint=folder / f"{name}.unfinished", progress=said)
        each = (time.process_time() - began) / len(seen)  # those before an interruption took as long
        write_json(folder / f"{name}.json", {"seconds": each * seen[-1]})
        prior.save(kept)
    return DiffusionPrior.load(kept)


def measured(pair: Pair, name: str, prior: Prior, targets: Tensor) -> list[dict[str, Any]]:
    """A row for every amount of noise, and for every way in which a diffusion prior answers."""
    audit = visual_audit(targets, prior, SIGMAS, box=BOX, seed=SEED)
    rows = []
    for level in audit.levels:
        rows.append(row_of(pair, name, audit, level, level.found))
        for mode, kind in MODES.items() if pair.modes and isinstance(prior, DiffusionPrior) else ():
            found = prior.denoise(level.seen, level.noise_std, kind, steps=25, seed=SEED)
            rows.append(row_of(pair, mode, audit, level, found))
    return rows


def row_of(pair: Pair, name: str, audit: VisualAudit, level: Level, found: Tensor) -> dict[str, Any]:
    """Scores of what was found, of what was seen and of the prior alone; shares of images, and what bounds say."""
    targets, row = audit.images, {"relation": pair.relation, "prior": name, "sigma": level.noise_multiplier}
    row |= {"noise_std": float(level.noise_std.mean()), "patients": len(targets), "gallery": audit.gallery}
    for metric in METRICS:
        score = compared(metric, targets, found, audit.guess[None].to(targets))
        row[metric] = {
            "value": score.value, "interval": [score.interval.lower, score.interval.upper],
            "prior_only": score.baseline, "seen": level.seen_scores[metric].value,
            "gain": score.gain, "gain_interval": [score.gain_interval.lower, score.gain_interval.upper],
        }  # fmt: skip
    interval = level.interval
    recognised, spread = share(reidentified(found, targets, torch.arange(len(targets))))
    energy = (BOX[0] + (BOX[1] - BOX[0]) * targets).double().flatten(1).norm(dim=1)
    return row | {
        "reidentified": level.reidentified, "reidentified_interval": [interval.lower, interval.upper],
        "recognised": recognised, "recognised_interval": [spread.lower, spread.upper],
        "bound": level.bound.upper, "unbiased_mse": level.unbiased_mse, "shrinkage_mse": level.shrinkage_mse,
        "close": share_close(targets, found), "close_seen": share_close(targets, level.seen),
        "close_prior_only": share_close(targets, audit.guess.expand_as(targets)),
        "close_from_scratch": from_scratch(level.noise_multiplier, energy, targets[0].numel()),
    }  # fmt: skip


def share_close(targets: Tensor, found: Tensor) -> float:
    return float((mse(targets, found) <= CLOSE).double().mean())


def from_scratch(sigma: float, norms: Tensor, pixels: int) -> float:
    """Chance of an error below `CLOSE` by the law of the best unbiased attack without a prior, mean over the images."""
    error = CLOSE * (BOX[1] - BOX[0]) ** 2
    return float(np.mean([FromScratchAttack(pixels, sigma, norm).mse_cdf(error) for norm in norms.tolist()]))


def measure(data: Path, out: Path, folder: Path) -> dict[str, Any]:
    """What OUT lacks."""
    results: dict[str, Any] = read_json(out) if out.is_file() else {"parts": {}, "seconds_of_diffusion": {}}
    for pair in PAIRS:
        known = public(data, pair.public)
        fits: dict[str, Callable[[], Prior]] = {
            "diffusion": partial(trained, known, pair.public, folder),
            "Wiener": partial(GaussianPrior.fit, known, pair.public),
            "empirical": partial(EmpiricalPrior.fit, known, pair.public),
        }
        for name, fit in fits.items():
            part = f"{pair.targets} / {pair.public} / {name}"
            if part not in results["parts"] and (pair.diffusion or name != "diffusion"):
                print(part, flush=True)
                results["parts"][part] = measured(pair, name, fit(), attacked(data, pair.targets))
                if name == "diffusion":
                    results["seconds_of_diffusion"][pair.public] = read_json(folder / f"{pair.public}.json")["seconds"]
                write_json(out, results)
    return results


def picture(data: Path, folder: Path, out: Path) -> None:
    """Three patients of Hannover."""
    prior = trained(public(data, "pneumoniamnist"), "pneumoniamnist", folder)
    audit = visual_audit(attacked(data, "hannover"), prior, SIGMAS[:-1], box=BOX, seed=SEED)
    note = "Images: COVID-19 Image Repository, Hannover Medical School, CC BY 3.0;"
    save_visual_grid(out, audit, 3, lambda level: f"noise\n{level.noise_multiplier:g}", note)
    out.chmod(0o644)


def table(rows: list[dict[str, Any]]) -> str:
    """One pair and prior as Markdown."""
    lines = [
        "| noise | MSE: seen / denoised | PSNR | SSIM: seen / denoised | re-identified (bound) | when denoised "
        "| close: from scratch / denoised |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        errors, psnr, ssim = row["MSE"], row["PSNR"], row["SSIM"]
        lines.append(
            f"| {row['sigma']:g} | {errors['seen']:.2g} / {errors['value']:.2g} | {psnr['value']:.1f} "
            f"| {ssim['seen']:.2f} / {ssim['value']:.2f} | {row['reidentified']:.2f} ({row['bound']:.2f}) "
            f"| {row['recognised']:.2f} | {row['close_from_scratch']:.2f} / {row['close']:.2f} |"
        )
    alone = rows[0]
    lines.append(
        f"| prior only | {alone['MSE']['prior_only']:.2g} | {alone['PSNR']['prior_only']:.1f} "
        f"| {alone['SSIM']['prior_only']:.2f} | {1 / alone['gallery']:.2f} | | {alone['close_prior_only']:.2f} |"
    )
    return "\n".join(lines)


def tables(results: dict[str, Any]) -> str:
    """All of them, by the way of the answer."""
    told = []
    for part, rows in results["parts"].items():
        for name in dict.fromkeys(row["prior"] for row in rows):
            own = [row for row in rows if row["prior"] == name]
            told.append(f"{part}, {name} ({own[0]['relation']})\n\n{table(own)}\n")
    return "\n".join(told) + json.dumps(results["seconds_of_diffusion"])


def main() -> None:
    """Measure what is missing, print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    data, out = arguments.data.resolve(), arguments.out
    folder = out.with_suffix("")
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    print(tables(read_json(out) if arguments.table else measure(data, out, folder)))
    if arguments.picture:
        picture(data, folder, arguments.picture)


if __name__ == "__main__":
    main()
