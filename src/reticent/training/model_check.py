"""Refuses networks for which "one patient's gradient" does not exist."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from reticent.errors import InputError


def check_model(model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Refuse layers that couple the records of a batch, and forwards that write data into buffers or parameters.

    Args:
        model: the network, in training mode.
        inputs: two or more made-up records by input name; never private ones.

    Raises:
        InputError: names the layer, why it is refused and what to use instead.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise InputError(
                f"layer {name!r} ({type(module).__name__}) mixes the patients of a batch, so no patient's influence "
                "can be bounded.\nUse GroupNorm instead; MONAI networks take norm=('group', {'num_groups': 8})."
            )
        if isinstance(module, _InstanceNorm) and module.track_running_stats:
            raise InputError(
                f"layer {name!r} ({type(module).__name__}) stores running statistics of patients; "
                "set track_running_stats=False"
            )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        together = forward(model, inputs)
        alone = forward(model, {name: x[:1] for name, x in inputs.items()})
    for name, value in model.state_dict().items():
        if not torch.equal(before[name], value):
            raise InputError(
                f"{name!r} is written during the forward pass: patients' data would enter the released weights without "
                "noise.\nUse a layer without running statistics, or one whose values only an optimiser changes."
            )
    random_layers = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in model.modules())
    if not random_layers and not torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-4):
        raise InputError(
            f"{type(model).__name__}: a record's output changes with the other records of its batch; "
            "remove whatever couples them (batch statistics, attention or losses across records)"
        )


def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """The model's logits; a single input is passed as a tensor, several as a dictionary."""
    output = model(next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs))
    return output[0] if isinstance(output, tuple) else output
