"""The peer: gradient inversion and imprint of the package `breaching`, on the same networks, gradients and images.

    .venv/bin/pip install --target peer --no-deps breaching==0.1.2 hydra-core omegaconf antlr4-python3-runtime==4.9.3 \
        pyyaml lpips torchvision
    PYTHONPATH=peer .venv/bin/python benchmarks/reconstruction_peer.py ../shared/data \
        benchmarks/results/reconstruction.json

Colour, as its total variation needs three channels: grey X-rays as the files store them, in three equal ones, which
neither searcher is told. Its units are those that the network is fed, four times ours, and its variation adds up two
axes where ours averages: the settings below are made equal by that. Adds `peer` to the results; about 8 CPU-minutes.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reconstruction import EIGHT_BIT, NEURONS, TASK, rebuilt, scored
from reconstruction_data import BOX, SIDE, chests, network
from reticent.attacks.reconstruction import SEARCHES, Defence, imprint, observed_gradient, read_imprint
from reticent.attacks.reconstruction.on_runs.material import Material

# torch without CUDA cannot load torchvision's compiled operators, none of which the attacks use; it wants their names.
_LIBRARY = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")

import breaching  # noqa: E402
from breaching.cases.malicious_modifications.imprint import ImprintBlock  # noqa: E402

XRAYS, BATCHES, BATCH = 4, 16, 16
LENGTH = BOX[1] - BOX[0]
SETTINGS: dict[str, Mapping[str, Any]] = {
    "inverting-gradients": {"signed": "hard", "step_size_decay": "step-lr"},
    "cosine": {"signed": None, "step_size_decay": "cosine-decay"},
}


def payload(model: nn.Module, gradient: list[Tensor], labels: Tensor, channels: int) -> tuple[list[Any], list[Any]]:
    """What its server knows and what its user sent."""
    about = _Keyed(
        shape=(channels, SIDE, SIDE), modality="vision", task="classification", mean=[0.5] * channels,
        std=[0.25] * channels,
    )  # fmt: skip
    server = {"parameters": list(model.parameters()), "buffers": list(model.buffers()), "metadata": about}
    user = {
        "gradients": gradient, "buffers": None,
        "metadata": {"num_data_points": len(labels), "labels": labels, "local_hyperparams": None},
    }  # fmt: skip
    return [server], [user]


class _Keyed(dict):  # type: ignore[type-arg]
    """Its metadata is asked by attribute and by key."""

    __getattr__ = dict.__getitem__


def theirs(model: nn.Module, material: Material, config: Any) -> Tensor:
    """Images in [0, 1] by its optimisation, one from each gradient."""
    found = []
    for i in range(len(material.images)):
        torch.manual_seed(i)
        batch = material.batch([i])
        gradient = observed_gradient(model, TASK.loss_fn(), batch, Defence())
        attacker = breaching.attacks.prepare_attack(model, nn.CrossEntropyLoss(), config)
        sent = payload(model, [gradient[name] for name, _ in model.named_parameters()], batch["targets"]["label"], 3)
        found.append(attacker.reconstruct(*sent, server_secrets={})[0]["data"].clamp(*BOX))
    return material.unit(torch.cat(found))


def timed(material: Material, images: Callable[[], Tensor], **told: Any) -> dict[str, Any]:
    """A row: seconds of one image, and its scores."""
    began = time.process_time()
    found = images()
    seconds = (time.process_time() - began) / len(found)
    return {**told, "images": len(found), "cpu_seconds_per_image": seconds, **scored(material, found)}


def searches(data: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Ours and theirs, at equal settings; and its preset with no more than the iterations cut."""
    material, model = chests(data, XRAYS, grey=False), network(channels=3)
    rows: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, optimiser in SETTINGS.items():
        search = SEARCHES[name]
        told = {"search": name, "iterations": search.iterations}
        config = breaching.get_attack_config("invertinggradients")
        config.optim.update(
            {**optimiser, "max_iterations": search.iterations, "step_size": LENGTH * search.learning_rate}
        )
        config.regularization.total_variation.scale = search.smoothness / LENGTH / 2
        ours = partial(rebuilt, model, TASK, material, search)
        rows[f"{name}, reticent"] = partial(timed, material, ours, **told)
        rows[f"{name}, breaching"] = partial(timed, material, partial(theirs, model, material, config), **told)
    preset = breaching.get_attack_config("invertinggradients")
    preset.optim.max_iterations = SEARCHES["cosine"].iterations
    own = partial(theirs, model, material, preset)
    rows["preset, breaching"] = partial(timed, material, own, search="its preset", iterations=800)
    return rows


def imprinted(data: Path, own: bool) -> dict[str, Any]:
    """Share of images read out exactly from batches of 16: our layer and reading, or its block and reading."""
    material = chests(data, BATCHES * BATCH)
    torch.manual_seed(0)
    block = None if own else ImprintBlock((1, SIDE, SIDE), NEURONS, connection="linear", gain=1e-3, linfunc="fourier")
    layer = imprint(material.references, NEURONS) if block is None else nn.Sequential(block, network())
    exact, began = [], time.process_time()
    for rows in torch.arange(len(material.images)).split(BATCH):
        batch = material.batch(rows.tolist())
        gradient = observed_gradient(layer, TASK.loss_fn(), batch, Defence())
        if block is None:
            found = read_imprint(layer, gradient)  # type: ignore[arg-type]
        else:
            config = breaching.get_attack_config("imprint")
            sent = payload(layer, [gradient[n] for n, _ in layer.named_parameters()], batch["targets"]["label"], 1)
            secret = {"weight_idx": 0, "bias_idx": 1, "structure": block.structure, "shape": (1, SIDE, SIDE)}
            attacker = breaching.attacks.prepare_attack(layer, nn.CrossEntropyLoss(), config)
            found = attacker.reconstruct(*sent, server_secrets={"ImprintBlock": secret})[0]["data"]
        unit, targets = material.unit(found.float()).clamp(0, 1), material.unit(material.images[rows])
        errors = (unit[None] - targets[:, None]).abs().flatten(2).amax(2).amin(1)
        exact += (errors < EIGHT_BIT).tolist()
    return {"exact": sum(exact) / len(exact), "images": len(exact), "cpu_seconds": time.process_time() - began}


def main() -> None:
    """Measure what is missing, and write after each row."""
    logging.disable()
    data, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    results = json.loads(out.read_text()) if out.exists() else {}
    rows = results.setdefault("peer", {})
    measures = {
        "imprint, reticent": lambda: imprinted(data, own=True),
        "imprint, breaching": lambda: imprinted(data, own=False),
        **searches(data),
    }
    for name, measure in measures.items():
        if name not in rows:
            rows[name] = measure()
            print(name, rows[name], flush=True)
            out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
