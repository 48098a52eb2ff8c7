"""Small clinical cohorts: markers and images by nested cross-validation, and a segmenter's weights with few labels.

    .venv/bin/python benchmarks/clinical_response.py ../shared/data benchmarks/results/clinical_response.json [--table]

"icu": does a patient of the Hannover COVID-19 radiographs (71, their first image each) come to intensive care? Five
outer folds by patient, two inner ones for the learning rate, three repeats, and reference models without images.

"busi": benign or malignant with 60 labels. Of 647 lesions in groups of near-duplicates, 200 are for testing and no
network sees them before; a segmenter learns from the masks of the others, a restorer from their images alone, with as
many steps; classifiers start from one of them or at random, on whole images or on crops by the segmenter's masks, or
learn from labels and masks at once, twice for each of three splits. All is without privacy.

What was done is kept beside OUT and goes on if interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clinical_data import busi, hannover
from reticent.records import RunFolder, write_text

SPLITS = (0, 1, 2)
REPEATS = (0, 1)
MARKERS = {
    "crp": "log,0..500", "d_dimer": "log,0..40", "factor_xii": "", "ldh": "log", "lymphocytes": "", "neutrophils": "",
    "pco2": "", "po2": "0..400",
}  # fmt: skip
LEVELS = ["--model-argument", "levels=4"]
SEGMENTER = [*LEVELS, "--steps", "350", "--sampling-rate", "0.04", "--learning-rate", "0.005"]
CLASSIFIER = [
    *LEVELS, "--model", "unet-encoder", "--label", "malignant", "--steps", "90", "--sampling-rate", "0.25",
    "--learning-rate", "0.003", "--ema-decay", "0",
]  # fmt: skip
ORIGIN = "BUSI without its test images"
SLOWER = ["--transfer-rate", "0.2"]
# as many passes over the 60 labels as above; the label's loss weighs 1 and the mask's 0.5 in the average of the images
# that have them
GUIDED = [
    *LEVELS, "--label", "malignant", "--steps", "560", "--sampling-rate", "0.04", "--learning-rate", "0.003",
    "--ema-decay", "0", "--mask-weight", "0.067",
]  # fmt: skip


class Variant(NamedTuple):
    """The manifest ("labels", "crops" or "both"), the run that it starts from, and its options."""

    manifest: str
    start: str | None = None
    options: Sequence[str] = CLASSIFIER


VARIANTS = {
    "whole image, scratch": Variant("labels"),
    "whole image, segmenter's encoder": Variant("labels", "masks"),
    "crop by predicted mask, scratch": Variant("crops"),
    "crop by predicted mask, segmenter's encoder": Variant("crops", "masks"),
    "whole image, segmenter's encoder at a fifth of the rate": Variant("labels", "masks", [*CLASSIFIER, *SLOWER]),
    "whole image, encoder of images alone": Variant("labels", "images"),
    "whole image, labels and masks at once": Variant("both", None, GUIDED),
}


def icu(data: Path, folder: Path) -> dict[str, Any]:
    """The record of the cross-validation."""
    study = folder / "icu.toml"
    if not study.exists():
        markers = ", ".join(f'{name} = "{text}"' for name, text in MARKERS.items())
        beside = f"cohort = {{ markers = {{ {markers} }} }}"
        grid = 'grid = { "training.learning_rate" = [0.003, 0.01] }'
        write_text(
            study,
            f'[cohort]\nuri = "{hannover(data, folder)}"\nlabels = ["icu"]\nimage_size = [32]\ngrey = true\n'
            'acquisition = ["projection", "sex"]\n[privacy]\nnon_private = true\nsteps = 40\n'
            f"[sweep.variants.image]\n{grid}\n"
            f'[sweep.variants.laboratory]\n{beside}\nmodel = {{ name = "markers" }}\n{grid}\n'
            f'[sweep.variants.both]\n{beside}\nmodel = {{ name = "fusion" }}\n{grid}\n',
        )
    run(folder, "crossval", study, "--folds", 5, "--inner", 2, "--repeats", 3, "--out", folder / "icu")
    return json.loads((folder / "icu" / "crossval.json").read_text())


def transfer(data: Path, folder: Path) -> list[dict[str, Any]]:
    """One row for each variant, split and repeat: AUROC on the test lesions; and how the first stages do on them."""
    rows = []
    for split in SPLITS:
        masks, labels, both = busi(data, folder, split)
        segmenter, restorer = folder / f"busi-{split}-masks", folder / f"busi-{split}-images"
        train(folder, masks, segmenter, *SEGMENTER)
        train(folder, masks, restorer, "--pretrain", *SEGMENTER)
        for first, name, metric in ((segmenter, "segmenter", "dice"), (restorer, "restorer", "r2")):
            (test,) = (s for s in RunFolder(first).metrics().splits if s.split == "test")
            rows.append({"split": split, "variant": name, metric: test.metrics[metric].value})
        crops = folder / f"busi-{split}-crops"
        if not crops.exists():
            run(folder, "localise", labels, "--run", segmenter, "--out", crops, "--margin", 10)
        manifests = {"labels": labels, "crops": crops / "manifest.csv", "both": both}
        for number, (name, variant) in enumerate(VARIANTS.items()):
            weights = folder / f"busi-{split}-{variant.start}" / "release" / "model.safetensors"
            start = ["--init-from", weights, "--init-origin", ORIGIN] if variant.start else []
            for repeat in REPEATS:
                out = folder / f"busi-{split}-{number}-{repeat}"
                train(folder, manifests[variant.manifest], out, *variant.options, *start)
                (test,) = (s for s in RunFolder(out).metrics().splits if s.split == "test")
                rows.append({"split": split, "variant": name, "repeat": repeat, **test.metrics["auroc"].model_dump()})
    return rows


def train(folder: Path, manifest: Path, out: Path, *options: object) -> None:
    """One run without privacy, unless it is finished."""
    if (out / "private" / "run.json").exists():
        if RunFolder.open(out, finished=False).state().status != "finished":
            run(folder, "train", "--resume", out)
    else:
        run(folder, "train", manifest, "--non-private", "--grey", "--image-size", 64, "--out", out, *options)


def run(folder: Path, *command: object) -> None:
    """A command of reticent in a fresh process, on a ledger of its own."""
    environment = {**os.environ, "RETICENT_LEDGER": str(folder / "ledger.sqlite")}
    done = subprocess.run(
        [sys.executable, "-m", "reticent", *map(str, command)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def tables(found: Mapping[str, Any]) -> str:
    """Markdown of what was measured."""
    lines = []
    if "icu" in found:
        lines += [
            "| model | AUROC (95 %, DeLong) | bootstrap | Brier score | less image alone (95 %) | p |",
            "|---" * 6 + "|",
        ]
        lines += [_icu_row(row) for row in found["icu"]["rows"]]
    if "busi" in found:
        frame = pd.DataFrame(found["busi"])
        lines += [
            "",
            "| variant | " + " | ".join(f"split {k}" for k in SPLITS) + " | mean |",
            "|---" * (len(SPLITS) + 2) + "|",
        ]
        stages = {"segmenter": ("segmenter, Dice", "dice"), "restorer": ("restorer, R2 of hidden pixels", "r2")}
        for name in (*stages, *VARIANTS):
            told, metric = stages.get(name, (name, "value"))
            values = frame[frame.variant == name].groupby("split")[metric].mean().tolist()
            cells = " | ".join(f"{value:.3f}" for value in (*values, np.mean(values)))
            lines.append(f"| {told} | {cells} |")
    return "\n".join(lines)


def _icu_row(row: Mapping[str, Any]) -> str:
    auroc, bootstrap, difference = row["auroc"], row["bootstrap"], row["difference"]
    cells = [
        row["name"],
        f"{auroc['value']:.3f} ({auroc['lower']:.3f} to {auroc['upper']:.3f})",
        f"{bootstrap['lower']:.3f} to {bootstrap['upper']:.3f}",
        f"{row['brier']['value']:.3f}",
        f"{difference['value']:+.3f} ({difference['lower']:+.3f} to {difference['upper']:+.3f})" if difference else "",
        f"{difference['p_value']:.3f}" if difference else "",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure what OUT does not have yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("icu", "busi"))
    parser.add_argument("--table", action="store_true", help="print OUT's tables, measure nothing")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    folder = options.out.with_suffix("").absolute()
    for name, measure in (("icu", icu), ("busi", transfer)):
        if options.table or name in found or options.only not in (None, name):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        found[name] = measure(options.data.absolute(), folder)
        write_text(options.out, json.dumps(found, indent=1) + "\n")
    print(tables(found))


if __name__ == "__main__":
    main()
