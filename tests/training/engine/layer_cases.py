"""Every native rule with the options of its layer, as small networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

WAYS = ("rule", "ghost", "bmm", "bmm+recompute", None)
"""Strategies of a layer with factors; None measures."""
ALL_WAYS = (
    *WAYS,
    "ghost+recompute",
    "loop",
    "loop+recompute",
    "grouped",
    "grouped+recompute",
    "windows",
    "windows+recompute",
    "winograd",
    "winograd+recompute",
)
REAL = ("float64", "float32", "bfloat16", "float16", "autocast")


@dataclass(frozen=True)
class Case:
    """`build(**options)` gives a network and the shape of a record; `tokens` is the vocabulary of a record of words."""

    build: Callable[..., tuple[nn.Module, tuple[int, ...]]]
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    strategies: tuple[str | None, ...] = WAYS
    dtypes: tuple[str, ...] = REAL
    tokens: int = 0


CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
ON_IMAGES = {"ndim": (1, 2, 3)}


def linear(inner, bias):
    return nn.Sequential(nn.Linear(3, 4, bias), nn.Tanh(), nn.Linear(4, 5, bias)), (*inner, 3)


def convolution(ndim, groups, stride_padding, kernel, dilation, mode, bias):
    stride, padding = stride_padding
    layer = CONV[ndim](
        4, 8 if groups == 4 else 6, kernel, stride, padding, dilation, groups, bias=bias, padding_mode=mode
    )
    return nn.Sequential(CONV[ndim](2, 4, 1), nn.Tanh(), layer), (2, 5, 6, 7)[: ndim + 1]


def transposed_convolution(ndim, groups, stride_extra, kernel, dilation, padding, bias):
    stride, extra = stride_extra
    layer = TRANSPOSED[ndim](4, 8 if groups == 4 else 6, kernel, stride, padding, extra, groups, bias, dilation)
    return nn.Sequential(CONV[ndim](2, 4, 1), nn.Tanh(), layer), (2, 3, 4, 2)[: ndim + 1]


def group_norm(ndim, groups, bias):
    norm = nn.GroupNorm(groups, 4)
    if not bias:
        norm.bias = None
    return nn.Sequential(
        CONV[ndim](2, 4, 1) if ndim else nn.Linear(2, 4), norm, nn.Tanh(), nn.GroupNorm(2, 4)
    ), (2, 5, 4, 3)[: ndim + 1]  # fmt: skip


def instance_norm(ndim):
    norm = INSTANCE_NORM[ndim](4, affine=True)
    return nn.Sequential(CONV[ndim](2, 4, 1), norm, nn.Tanh(), INSTANCE_NORM[ndim](4, affine=True)), (2, 5, 4, 3)[
        : ndim + 1
    ]


def layer_norm(axes, inner, bias):
    norms = (nn.LayerNorm((4, 6)[2 - axes :], bias=bias) for _ in range(2))
    return nn.Sequential(nn.Linear(6, 6), next(norms), nn.Tanh(), next(norms)), (*inner, 4, 6)


def rms_norm(axes, inner):
    return nn.Sequential(nn.Linear(6, 6), nn.RMSNorm((4, 6)[2 - axes :]), nn.Tanh()), (*inner, 4, 6)


def embedding(inner, padding):
    return nn.Sequential(nn.Embedding(5, 3, padding), nn.Tanh(), nn.Linear(3, 2)), inner


class Attention(nn.Module):
    """Self attention, or cross attention to other widths, with heads of two."""

    def __init__(self, cross, batch_first, mask, bias, bias_kv, weights):
        super().__init__()
        other = {"kdim": 3, "vdim": 5} if cross else {}
        self.first, self.mask, self.weights = batch_first, mask, weights
        self.key, self.value = nn.Linear(4, 3 if cross else 4), nn.Linear(4, 5 if cross else 4)
        self.attention = nn.MultiheadAttention(
            4, 2, bias=bias, add_bias_kv=bias_kv, add_zero_attn=bias_kv, batch_first=batch_first, **other
        )

    def forward(self, x):
        query, key, value = x, x, x
        if self.attention.kdim != 4:
            key, value = self.key(x[:, 1:]), self.value(x[:, 1:])
        steps = key.shape[1]
        masks = {}
        if self.mask == "attn":
            masks["attn_mask"] = torch.arange(steps)[None] > torch.arange(x.shape[1])[:, None]
        if self.mask == "padding":
            masks["key_padding_mask"] = (torch.arange(steps) == steps - 1).expand(len(x), -1)
        if not self.first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        y = self.attention(query, key, value, need_weights=self.weights, **masks)[0]
        return y if self.first else y.transpose(0, 1)


def multihead_attention(**options):
    return Attention(**options), (4, 4)


class Fused(nn.Module):
    """A block around the library's fused attention, with fewer heads of keys if grouped."""

    def __init__(self, causal, mask, grouped):
        super().__init__()
        self.qkv, self.out, self.options = nn.Linear(4, 16), nn.Linear(8, 3), {"is_causal": causal}
        self.grouped = grouped
        if grouped:
            self.options["enable_gqa"] = True
        self.mask = nn.Parameter(torch.randn(5, 5)) if mask == "trained" else None
        if mask == "fixed" and not causal:
            self.options["attn_mask"] = torch.eye(5, dtype=torch.bool).logical_not()

    def forward(self, x):
        q, k, v = self.qkv(x).split([8, 4, 4], -1)
        q = q.unflatten(-1, (4, 2)).transpose(1, 2)
        k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in (k, v))
        if not self.grouped:
            k, v = (t.repeat_interleave(2, 1) for t in (k, v))
        masks = {} if self.mask is None or self.options["is_causal"] else {"attn_mask": self.mask.to(q.dtype)}
        return self.out(F.scaled_dot_product_attention(q, k, v, **self.options, **masks).transpose(1, 2).flatten(2))


def fused_attention(**options):
    return Fused(**options), (5, 4)


class TimeFirst(nn.Module):
    """A layer whose records are on the second axis."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.transpose(0, 1)).transpose(0, 1)


def transformer(norm_first, batch_first, activation, training):
    layer = nn.TransformerEncoderLayer(
        4, 2, 6, dropout=0.0, activation=activation, norm_first=norm_first, batch_first=batch_first
    )
    return (layer if batch_first else TimeFirst(layer)).train(training), (3, 4)


def prelu(ndim, slopes):
    return nn.Sequential(CONV[ndim](2, 4, 1), nn.PReLU(slopes)), (2, 4, 3, 2)[: ndim + 1]


class Recurrent(nn.Module):
    """Outputs of all steps beside the last states, from zeros or from trained first states."""

    def __init__(self, layer, start):
        super().__init__()
        self.layer = layer
        self.start = nn.Parameter(0.5 * torch.randn(layer.num_layers * (1 + layer.bidirectional), 1, 4))
        self.start.requires_grad_(start)

    def forward(self, x):
        start = self.start.expand(-1, len(x), -1).contiguous()
        y, last = self.layer(
            x if self.layer.batch_first else x.transpose(0, 1), (start, start) if self.layer.mode == "LSTM" else start
        )
        last = torch.cat(last, -1) if isinstance(last, tuple) else last
        y = y if self.layer.batch_first else y.transpose(0, 1)
        return torch.cat([y.flatten(1), last.transpose(0, 1).flatten(1)], 1)


NETWORKS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
}


def recurrent(kind, layers, bidirectional, batch_first, bias, start):
    layer = NETWORKS[kind](
        3, 4, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first, bias=bias
    )  # fmt: skip
    return Recurrent(layer, start), (3, 3)


CELLS = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "tanh": nn.RNNCell,
    "relu": lambda *args, **options: nn.RNNCell(*args, nonlinearity="relu", **options),
}


class Steps(nn.Module):
    """A cell called once a time step."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return torch.cat(state, -1) if isinstance(state, tuple) else state


def cell(kind, bias):
    return Steps(CELLS[kind](3, 4, bias=bias)), (3, 3)


BOTH = (True, False)
RULES = {
    "linear": Case(linear, {"inner": ((), (5,), (2, 3)), "bias": BOTH}),
    "convolution": Case(
        convolution,
        ON_IMAGES
        | {
            "groups": (1, 2, 4),
            "stride_padding": ((1, 0), (1, 2), (1, "same"), (2, 0), (2, 1)),
            "kernel": (1, 2, 3),
            "dilation": (1, 2),
            "mode": ("zeros", "reflect", "replicate", "circular"),
            "bias": BOTH,
        },
        ALL_WAYS,
    ),
    "transposed convolution": Case(
        transposed_convolution,
        ON_IMAGES
        | {
            "groups": (1, 2, 4),
            "stride_extra": ((1, 0), (2, 0), (2, 1), (3, 2)),
            "kernel": (2, 3),
            "dilation": (1, 2),
            "padding": (0, 1),
            "bias": BOTH,
        },
        ALL_WAYS,
    ),
    "group norm": Case(group_norm, {"ndim": (0, 1, 2, 3), "groups": (1, 2), "bias": BOTH}, ("rule",)),
    "instance norm": Case(instance_norm, ON_IMAGES, ("rule",)),
    "layer norm": Case(layer_norm, {"axes": (1, 2), "inner": ((), (3,)), "bias": BOTH}, ("rule",)),
    "RMS norm": Case(rms_norm, {"axes": (1, 2), "inner": ((), (3,))}, ("rule",)),
    "embedding": Case(embedding, {"inner": ((), (6,), (2, 3)), "padding": (None, 0, 4)}, tokens=5),
    "multi-head attention": Case(
        multihead_attention,
        {
            "cross": BOTH,
            "batch_first": BOTH,
            "mask": (None, "attn", "padding"),
            "bias": BOTH,
            "bias_kv": BOTH,
            "weights": BOTH,
        },
    ),
    "fused attention": Case(
        fused_attention, {"causal": BOTH, "mask": (None, "fixed", "trained"), "grouped": BOTH}
    ),
    "transformer layer": Case(
        transformer, {"norm_first": BOTH, "batch_first": BOTH, "activation": ("relu", "gelu"), "training": BOTH}
    ),
    "PReLU": Case(prelu, ON_IMAGES | {"slopes": (1, 4)}, ("rule",)),
    "recurrent network": Case(
        recurrent,
        {
            "kind": tuple(NETWORKS),
            "layers": (1, 2),
            "bidirectional": BOTH,
            "batch_first": BOTH,
            "bias": BOTH,
            "start": BOTH,
        },
    ),
    "recurrent cell": Case(cell, {"kind": tuple(CELLS), "bias": BOTH}),
}  # fmt: skip
