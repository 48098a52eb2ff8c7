"""Which engine gives the clipped sum of MONAI's networks: ours, Opacus by hooks and by ghost clipping, vmap(grad).

    .venv/bin/python benchmarks/engine_networks.py --json benchmarks/results/engine_networks.json [NETWORK ...]

Measured by a loop over records with ordinary autograd; right is a relative error of at most 1e-4. Every engine gets a
fresh network of the same weights, converted by `to_private`, and the same three records, two of them clipped; Opacus
has strict=False. Needs the extra `benchmark`.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.utils.stateless import _reparametrize_module

from monai_networks import NETWORKS, Network
from reticent.errors import first_line
from reticent.training import clipped_grad

RECORDS, RIGHT, LONGEST_REASON = 3, 1e-4, 90
Gradients = dict[str, Tensor]
Engine = Callable[[Network, nn.Module, Gradients, float], Gradients]


def norms_of(gradients: Gradients) -> Tensor:
    return torch.stack([g.double().flatten(1).square().sum(1) for g in gradients.values()]).sum(0).sqrt()


def clipped(gradients: Gradients, max_norm: float) -> Gradients:
    factors = (max_norm / norms_of(gradients)).clamp(max=1)
    return {name: torch.tensordot(factors, g.double(), 1) for name, g in gradients.items()}


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def gradient(loss: Tensor, model: nn.Module) -> Gradients:
    params = trained(model)
    found = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
    return dict(zip(params, found, strict=True))


def loop(network: Network, model: nn.Module, batch: Gradients) -> Gradients:
    """The gradient of every record, (records, ...)."""
    records = [{name: value[i : i + 1] for name, value in batch.items()} for i in range(RECORDS)]
    found = [gradient(network.losses(model, record).sum(), model) for record in records]
    return {name: torch.stack([each[name] for each in found]) for name in found[0]}


def ours(network: Network, model: nn.Module, batch: Gradients, max_norm: float) -> Gradients:
    """`clipped_grad`."""
    return clipped_grad(model, network.losses, batch, max_norm=max_norm).sum


def hooks(network: Network, model: nn.Module, batch: Gradients, max_norm: float) -> Gradients:
    """Opacus' per-sample gradients by hooks, clipped here."""
    GradSampleModule(model, loss_reduction="sum", strict=False)
    network.losses(model, batch).sum().backward()
    none = {name: p.new_zeros(RECORDS, *p.shape) for name, p in trained(model).items() if p.grad_sample is None}
    return clipped({name: none.get(name, p.grad_sample) for name, p in trained(model).items()}, max_norm)


def ghost(network: Network, model: nn.Module, batch: Gradients, max_norm: float) -> Gradients:
    """Opacus' fast gradient clipping with ghost norms: two backward passes."""
    wrapped = GradSampleModuleFastGradientClipping(model, loss_reduction="sum", max_grad_norm=max_norm, strict=False)
    losses = network.losses(model, batch)
    losses.sum().backward(retain_graph=True)
    factors = wrapped.get_clipping_coef()
    wrapped.disable_hooks()
    return gradient((factors * losses).sum(), model)


def vmap_grad(network: Network, model: nn.Module, batch: Gradients, max_norm: float) -> Gradients:
    """`torch.func.vmap(grad)`, clipped here."""
    values = {name: p.detach() for name, p in trained(model).items()}

    def loss(values: Gradients, record: Gradients) -> Tensor:
        with _reparametrize_module(model, values):
            return network.losses(model, {name: value[None] for name, value in record.items()})[0]

    return clipped(vmap(grad(loss), in_dims=(None, 0), randomness="different")(values, batch), max_norm)


def attempt(engine: Engine, network: Network, d: int, expected: Gradients, max_norm: float, as_is: bool = True) -> Any:
    """{"error": ...}, or {"reason": ...} why not; `in_place` says why activations in place had to be turned off."""
    model = network.model(d)
    for module in [m for m in model.modules() if hasattr(m, "inplace")]:
        module.inplace = module.inplace and as_is
    try:
        found = engine(network, model, network.batch(d, RECORDS), max_norm)
    except Exception as error:  # whatever an engine may raise
        reason = f"{type(error).__name__}: {first_line(error)[:LONGEST_REASON]}"
        if as_is and "modified inplace" in reason:
            return {"in_place": reason, **attempt(engine, network, d, expected, max_norm, False)}
        return {"reason": reason}
    squares = sum((found[name] - g).double().square().sum() for name, g in expected.items())
    return {"error": float((squares / sum(g.square().sum() for g in expected.values())).sqrt())}


def compare(name: str, d: int) -> dict[str, Any]:
    network = NETWORKS[name]
    gradients = loop(network, network.model(d), network.batch(d, RECORDS))
    max_norm = float(norms_of(gradients).min()) * 1.001
    expected = clipped(gradients, max_norm)
    row: dict[str, Any] = {"network": name, "d": d, "dtype": str(network.dtype).removeprefix("torch.")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        row["ours"] = attempt(ours, network, d, expected, max_norm)
        texts = [str(warning.message) for warning in caught]
        told = {"cannot be vectorised": "record by record", "no native rule": "general path for a large parameter"}
        row["ours"]["path"] = next((told[k] for k in told if any(k in text for text in texts)), "native")
        row |= {peer.__name__: attempt(peer, network, d, expected, max_norm) for peer in (hooks, ghost, vmap_grad)}
    return row


def cell(result: dict[str, Any]) -> str:
    end = " (fails with in-place activations)" if "in_place" in result else ""
    if "reason" in result:
        return "fails: " + result["reason"].replace("|", "/").replace("`", "'")
    return f"{'right' if result['error'] <= RIGHT else '**wrong**'}, {result['error']:.0e}{end}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    print("| network | ours | Opacus hooks | Opacus ghost | vmap(grad) |\n|---|---|---|---|---|")
    rows = []
    for d in (2, 3):
        for name in options.networks:
            row = compare(name, d)
            cells = " | ".join(cell(row[engine]) for engine in ("ours", "hooks", "ghost", "vmap_grad"))
            print(f"| {name} {d}-D | {row['ours']['path']}; {cells} |", flush=True)
            rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
