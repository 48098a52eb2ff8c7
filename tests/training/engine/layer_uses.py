"""Parameters that are shared, called again, made from others or used outside of layers, as small networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from layer_cases import BOTH, REAL, Case
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

COMPLEX = ("complex128", "complex64")


class Forward(nn.Module):
    """Layers by name, and a function (self, x) of them."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._call = forward

    def forward(self, x):
        return self._call(self, x)


def tied_linear():
    one, two = nn.Linear(4, 4), nn.Linear(4, 4)
    two.weight = one.weight
    return Forward(lambda m, x: m.head(m.two(m.one(x).tanh())), one=one, two=two, head=nn.Linear(4, 2)), (3, 4)


def embedding_and_output_head():
    words, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = words.weight
    return nn.Sequential(words, nn.Tanh(), head), (4,)


def convolution_twice(ndim):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[ndim - 1](2, 2, 3, padding=1)
    return nn.Sequential(conv, nn.Tanh(), conv), (2, 4, 3, 3)[: ndim + 1]


def norms_twice(kind):
    norm = {"group": nn.GroupNorm(2, 4), "layer": nn.LayerNorm(3), "PReLU": nn.PReLU(4)}[kind]
    return nn.Sequential(nn.Conv1d(2, 4, 1), norm, nn.Tanh(), norm), (2, 3)


def tied_across_kinds():
    """The weight of a convolution of kernel 1 is also, reshaped, that of a linear layer."""

    def forward(m, x):
        y = m.conv(x).tanh()
        return F.linear(y.movedim(1, -1), m.conv.weight.flatten(1))

    return Forward(forward, conv=nn.Conv2d(3, 3, 1)), (3, 4, 2)


def frozen(part):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
    if part == "weights":
        model[0].weight.requires_grad_(False)
        model[1].bias.requires_grad_(False)
    else:
        model[0 if part == "first" else 3].requires_grad_(False)
    return model, (2, 3)


def weight_normed(layer):
    if layer == "linear":
        return nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)), (2, 3)
    return nn.Sequential(parametrizations.weight_norm(nn.Conv2d(2, 3, 2)), nn.Tanh()), (2, 3, 4)


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019), as one writes it by hand."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def standardised():
    return nn.Sequential(StandardisedConv2d(2, 3, 3, padding=1), nn.Tanh(), StandardisedConv2d(3, 2, 2)), (2, 4, 5)


def checkpointed(reentrant):
    block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.GroupNorm(3, 3), nn.Tanh(), nn.Conv2d(3, 2, 1))

    def forward(m, x):
        return checkpoint(m.block, m.stem(x), use_reentrant=reentrant)

    return Forward(forward, stem=nn.Conv2d(2, 3, 1), block=block), (2, 4, 3)


def in_place():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(inplace=True), nn.GroupNorm(2, 4), nn.ELU(inplace=True), nn.Linear(3, 3),
        nn.LeakyReLU(inplace=True), nn.Conv2d(4, 2, 1), nn.SiLU(inplace=True),
    ), (2, 4, 5)  # fmt: skip


def complex_parameters(layer):
    layers = {
        "linear": (nn.Linear(3, 2), (4, 3)),
        "conv-1d": (nn.Conv1d(2, 3, 2, padding=1), (2, 4)),
        "conv-2d": (nn.Conv2d(2, 3, 2, stride=2), (2, 4, 5)),
        "no bias": (nn.Conv2d(2, 4, 3, groups=2, bias=False), (2, 4, 5)),
    }
    inner, shape = layers[layer]
    scale = nn.Parameter(torch.randn(shape[-1]))
    return Forward(lambda m, x: m.inner(m.before(x * m.scale)), before=nn.Tanh(), scale=scale, inner=inner), shape


def slices_of_a_volume(head):
    """Slices are images to the encoder; `head` joins them by volume again."""
    heads = {"linear": nn.Linear(12, 3), "attention": nn.MultiheadAttention(12, 2, batch_first=True)}

    def forward(m, x):
        y = m.pool(m.norm(m.conv(x.flatten(0, 1))).tanh()).flatten(1).unflatten(0, x.shape[:2])
        return m.head(y) if head == "linear" else m.head(y, y, y)[0]

    layers = {"conv": nn.Conv2d(1, 3, 3), "norm": nn.GroupNorm(3, 3), "pool": nn.AdaptiveAvgPool2d(2)}
    return Forward(forward, **layers, head=heads[head]), (3, 1, 5, 4)


def compiled():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.GroupNorm(3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    return Forward(lambda m, x: m.net(x), net=torch.compile(net, backend="eager")), (2, 4, 5)


def bare(kind):
    weights = {
        "einsum": (3, 4), "matmul": (3, 4), "matmul from the left": (2, 5), "position": (5, 3),
        "class token": (1, 1, 3), "layer scale": (3,), "addmm": (3, 4), "bilinear": (4, 3, 3),
    }  # fmt: skip
    calls = {
        "einsum": lambda m, x: torch.einsum("btk,kp->btp", x, m.p),
        "matmul": lambda m, x: x @ m.p,
        "matmul from the left": lambda m, x: m.p @ x,
        "position": lambda m, x: (x + m.p).tanh(),
        "class token": lambda m, x: torch.cat([m.p.expand(len(x), -1, -1), x], 1).tanh(),
        "layer scale": lambda m, x: x + m.p * x.tanh(),
        "addmm": lambda m, x: torch.addmm(m.p[0], x.flatten(0, 1), m.p).unflatten(0, x.shape[:2]),
        "bilinear": lambda m, x: F.bilinear(x, x.tanh(), m.p),
    }
    parameter = nn.Parameter(torch.randn(weights[kind]))
    return Forward(lambda m, x: calls[kind](m, m.first(x)), first=nn.Linear(3, 3), p=parameter), (5, 3)


class Scale(torch.autograd.Function):
    """y = x * w, with a backward of its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight):
        return x * weight

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g * weight, (g * x).sum_to_size(weight.shape)


def custom_function():
    weight = nn.Parameter(torch.randn(4))
    return Forward(lambda m, x: Scale.apply(m.first(x).tanh(), m.w), first=nn.Linear(3, 4), w=weight), (2, 3)


def batch_norm_in_evaluation(ndim):
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[ndim - 1](3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[ndim - 1](2, 3, 1)
    return nn.Sequential(conv, norm.eval(), nn.Tanh()), (2, 3, 2, 2)[: ndim + 1]


ONE_WAY = ("rule", "ghost", None)
USES = {
    "tied linear": Case(tied_linear),
    "embedding and output head": Case(embedding_and_output_head, tokens=5),
    "convolution twice": Case(convolution_twice, {"ndim": (1, 2, 3)}),
    "norm twice": Case(norms_twice, {"kind": ("group", "layer", "PReLU")}, ("rule",)),
    "tied across kinds": Case(tied_across_kinds),
    "frozen": Case(frozen, {"part": ("weights", "first", "last")}, ONE_WAY),
    "weight norm": Case(weight_normed, {"layer": ("linear", "conv")}, ONE_WAY),
    "weight standardisation": Case(standardised, strategies=ONE_WAY),
    "checkpointed": Case(checkpointed, {"reentrant": BOTH}, ONE_WAY),
    "in place": Case(in_place, strategies=ONE_WAY),
    "complex": Case(complex_parameters, {"layer": ("linear", "conv-1d", "conv-2d", "no bias")}, dtypes=COMPLEX),
    "slices of a volume": Case(slices_of_a_volume, {"head": ("linear", "attention")}),
    "compiled": Case(compiled, strategies=("rule",)),
    "bare": Case(
        bare,
        {
            "kind": (
                "einsum", "matmul", "matmul from the left", "position", "class token", "layer scale", "addmm",
            )
        },
        ("rule",),
    ),
    "bilinear": Case(bare, {"kind": ("bilinear",)}, ("rule",), dtypes=REAL[:4]),
    "custom function": Case(custom_function, strategies=("rule",)),
    "batch norm in evaluation": Case(batch_norm_in_evaluation, {"ndim": (1, 2, 3)}, ("rule",), dtypes=REAL[:3]),
}  # fmt: skip
