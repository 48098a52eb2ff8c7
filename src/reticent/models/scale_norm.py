"""ScaleNorm for any residual network: one more GroupNorm behind every join of two paths (Klause et al. 2022)."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from reticent.errors import InputError, first_line
from reticent.models.evaluating import evaluating
from reticent.models.layers import NORMS, group_norm

_ADDITIONS: set[Any] = {operator.add, operator.iadd, torch.add, "add", "add_"}
_CONCATENATIONS: set[Any] = {torch.cat, torch.concat, torch.concatenate}


def add_scale_norm(model: nn.Module, image: Tensor, groups: int = 32) -> fx.GraphModule:
    """The network with a GroupNorm of up to `groups` groups behind every addition or concatenation of feature maps.

    The layers and their weights stay the model's own, under their names; the new ones are called scale_norm_0, ... in
    the order of the forward pass. Between the addition and what follows, as the activation, stands the norm.

    Args:
        model: a network whose forward does not choose its way by values, nor by its mode.
        image: an example input (n, C, ...), from which the numbers of channels are found.
        groups: the most groups; as many as divide the channels are taken.

    Raises:
        InputError: the forward cannot be read as one graph, is another one in training, or joins nothing.
    """
    try:
        graph, joins = _read(model, image)
        codes = [_code(model, training) for training in (True, False)]
    except Exception as error:  # whatever a network of others may raise
        raise InputError(
            f"{type(model).__name__} cannot be read as one graph ({first_line(error)}); leave out --scale-norm, or put "
            "a GroupNorm behind the additions in its code"
        ) from error
    if codes[0] != codes[1]:
        raise InputError(
            f"{type(model).__name__} computes something else in training than in prediction beside its layers (as "
            "F.dropout(x, training=self.training)), which one graph cannot hold; leave out --scale-norm, or use layers"
        )
    if not joins:
        raise InputError(f"{type(model).__name__} joins no paths; --scale-norm is for residual networks")
    for number, node in enumerate(joins):
        name = f"scale_norm_{number}"
        graph.add_submodule(name, group_norm(groups, _shape(node)[1]))
        with graph.graph.inserting_after(node):
            norm = graph.graph.call_module(name)
        node.replace_all_uses_with(norm)
        norm.args = (node,)
    graph.recompile()
    own = set(model.modules())
    for module in graph.modules():
        if module not in own:
            module.training = model.training
    return graph


def additions_without_norm(model: nn.Module, image: Tensor) -> tuple[int, int] | None:
    """How many additions of paths have no normalisation directly behind them, and how many there are.

    None if the forward cannot be read as one graph.
    """
    try:
        graph, joins = _read(model, image)
    except Exception:  # whatever a network of others may raise
        return None
    additions = [node for node in joins if node.target in _ADDITIONS]
    return sum(not any(_normalises(graph, user) for user in node.users) for node in additions), len(additions)


def _read(model: nn.Module, image: Tensor) -> tuple[fx.GraphModule, list[fx.Node]]:
    """The forward as a graph, which has the model's own modules, and its joins."""
    graph = fx.symbolic_trace(model)
    with evaluating(model), torch.no_grad():  # no running statistics of the example
        ShapeProp(graph).propagate(image)
    return graph, [node for node in graph.graph.nodes if _joins_maps(node, image.ndim)]


def _code(model: nn.Module, training: bool) -> str:
    """What the forward does in this mode: a graph holds what `self.training` was when it was read."""
    with evaluating(model):
        return fx.symbolic_trace(model.train(training)).code


def _normalises(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), NORMS)


def _joins_maps(node: fx.Node, ndim: int) -> bool:
    """Whether the node adds or concatenates, along the channels, two maps or more of as many axes as the image."""
    parents = [parent for parent in node.all_input_nodes if len(_shape(parent)) == ndim]
    if len(parents) < 2 or len(_shape(node)) != ndim:
        return False
    if node.target in _CONCATENATIONS:
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        return axis in (1, 1 - ndim)
    return node.op in ("call_function", "call_method") and node.target in _ADDITIONS


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Of the tensor that the node gives; empty for anything else."""
    found = node.meta.get("tensor_meta")
    return tuple(found.shape) if found is not None and hasattr(found, "shape") else ()
