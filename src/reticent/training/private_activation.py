"""Noise inside the network: a record's bounded activations are released with noise (Knolle et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.hooks import RemovableHandle

from reticent.accounting import LocalGaussian
from reticent.accounting.mechanisms import Unit
from reticent.errors import InputError
from reticent.training.noise import RandomSource, SystemSource, gaussian_noise

Mode = Literal["clip", "normalise"]


def bound_records(activations: Tensor, bound: float, mode: Mode = "clip") -> Tensor:
    r"""Each record's whole activation brought to an L2 norm of at most `bound` (C); gradients pass through.

    "clip": :math:`a \min(1, C / \lVert a \rVert)`; "normalise": :math:`C\, a / \lVert a \rVert`, and 0 for a = 0.
    Values that are not finite count as 0. Rounding may exceed C by a few units in the last place.

    Args:
        activations: records first, (n, ...); the norm is over all other axes together.
    """
    flat = activations.flatten(1).nan_to_num(0.0, 0.0, 0.0)
    scale = flat.detach().abs().amax(1, keepdim=True)  # so that no square overflows or underflows
    unit = flat / scale.clamp(min=torch.finfo(flat.dtype).tiny)
    norm = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    if mode == "clip":
        bounded = flat * (bound / (scale * norm).clamp(min=bound))
    else:
        bounded = unit * (bound / norm.clamp(min=0.5))  # at least 1 but for a = 0, and for the least of all numbers
    return bounded.reshape(activations.shape)


class PrivateActivation(nn.Module):
    r"""Releases z = bounded(a) + N(0, :math:`\sigma^2 C^2 I`) for each record's activation a of any shape (n, ...).

    A local mechanism: replacing a record moves its own vector by at most 2 C, and no other record hides it. k forward
    passes over a record have mu = :math:`2 \sqrt k / \sigma` (see `mechanism`). Noise is added in evaluation mode too;
    `bound_records` alone is for what need not be hidden.

    What follows the layer is post-processing of z. What comes before it is not if it is trained: its gradient is
    computed with the raw record. The layer therefore refuses activations that require a gradient; what it cannot see
    from where it stands (batch statistics, paths around it) `check_private_activations` looks for.

    Args:
        bound: C, a constant that must not come from the private data.
        noise_multiplier: sigma, noise standard deviation / C.
        mode: how activations are bounded, see `bound_records`.
        source: of the noise; default the operating system's.

    Raises:
        InputError: bound or noise multiplier are not positive, or the mode is unknown; in a forward pass, something
            before the layer would be trained.
    """

    def __init__(
        self, bound: float, noise_multiplier: float, mode: Mode = "clip", source: RandomSource | None = None
    ) -> None:
        super().__init__()
        require_bound(bound, mode)
        LocalGaussian(noise_multiplier)
        self.bound, self.noise_multiplier, self.mode = bound, noise_multiplier, mode
        self._source = source or SystemSource()

    def forward(self, activations: Tensor) -> Tensor:
        if activations.requires_grad:
            raise _trained_upstream("a parameter or input")
        bounded = bound_records(activations, self.bound, self.mode)
        return bounded + gaussian_noise(bounded, self.noise_multiplier * self.bound, self._source)

    def mechanism(self, releases: int, unit: Unit = "record") -> LocalGaussian:
        """What `releases` forward passes over every record have done."""
        return LocalGaussian(self.noise_multiplier, releases, unit)

    def extra_repr(self) -> str:
        return f"bound={self.bound:g}, noise_multiplier={self.noise_multiplier:g}, mode={self.mode!r}"


def check_private_activations(model: nn.Module, inputs: Any) -> None:
    """Refuse a model of which the noise of its `PrivateActivation` layers does not cover the records.

    Runs the model on `inputs` and on random ones of their shape, and leaves it as it was.

    Args:
        model: in the mode and with the `requires_grad` that it is trained with.
        inputs: made-up records: a floating-point tensor (n, ...), or several in lists or dictionaries.

    Raises:
        InputError: there is no such layer; a parameter before one would be trained; a BatchNorm before one mixes
            records; or a record reaches the output on a path around them. It names the parameter or layer.
    """
    if not any(isinstance(module, PrivateActivation) for module in model.modules()):
        raise InputError(f"{type(model).__name__} has no PrivateActivation: nothing in it is noised")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        _refuse_trained_upstream(model, inputs)
        _refuse_batch_statistics(model, inputs)
        _refuse_paths_around(model, inputs)
    finally:
        model.load_state_dict(state)


def require_frozen(encoder: nn.Module) -> None:
    """Refuse what comes before the noise if it would be trained or mixes records.

    Raises:
        InputError: names the parameter that requires gradients, or the BatchNorm that uses batch statistics.
    """
    for name, parameter in encoder.named_parameters():
        if parameter.requires_grad:
            raise _trained_upstream(name)
    for name, module in encoder.named_modules():
        if _mixes_records(module):
            raise _mixed_upstream(name)


def require_bound(bound: float, mode: str) -> None:
    """Raise InputError unless the bound is positive and finite and the mode known."""
    if not 0 < bound < float("inf"):
        raise InputError(f"bound is {bound}; give a positive number that does not come from the private data")
    if mode not in get_args(Mode):
        raise InputError(f'mode is {mode!r}; say "clip" or "normalise"')


def _trained_upstream(name: str) -> InputError:
    return InputError(
        f"{name} comes before the noise and requires gradients: its gradient is computed with the raw image (for a "
        "linear layer its rows are multiples of the image), which no noise behind it hides.\n"
        "Freeze it: requires_grad_(False), with public weights."
    )


def _mixed_upstream(name: str) -> InputError:
    return InputError(
        f"layer {name!r} (BatchNorm in training mode) comes before the noise and mixes the records of a batch, so that "
        "a record moves more than its own vector.\nPut it into evaluation mode, or use GroupNorm."
    )


def _mixes_records(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats)


def _refuse_trained_upstream(model: nn.Module, inputs: Any) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def refuse(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        for leaf in _leaves(arguments[0].grad_fn) if arguments[0].requires_grad else ():
            raise _trained_upstream(names.get(id(leaf), "a tensor outside the model"))

    with torch.enable_grad(), _at_layers(model, nn.Module.register_forward_pre_hook, refuse):
        model(inputs)


def _refuse_batch_statistics(model: nn.Module, inputs: Any) -> None:
    """A BatchNorm behind the first noise works on what is released already."""
    noised: list[bool] = []

    def reached(_: nn.Module, __: Any) -> None:
        noised.append(True)

    def refuse(module: nn.Module, _: Any) -> None:
        if not noised:
            raise _mixed_upstream(names[module])

    names = {module: name for name, module in model.named_modules() if _mixes_records(module)}
    hooks = [module.register_forward_pre_hook(refuse) for module in names]
    try:
        with torch.no_grad(), _at_layers(model, nn.Module.register_forward_pre_hook, reached):
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _refuse_paths_around(model: nn.Module, inputs: Any) -> None:
    """Other records behind the same released activations must give the same outputs."""
    other = tree_map(lambda x: torch.randn_like(x) if _is_floating(x) else x, inputs)
    released: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        released.append(output)

    def repeat(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return released.pop(0)

    with torch.no_grad(), torch.random.fork_rng():
        random = torch.get_rng_state()
        with _at_layers(model, nn.Module.register_forward_hook, keep):
            first = tree_leaves(model(inputs))
        torch.set_rng_state(random)
        with _at_layers(model, nn.Module.register_forward_hook, repeat):
            second = tree_leaves(model(other))
    for one, two in zip(first, second, strict=True):
        if isinstance(one, Tensor) and not torch.allclose(one, two, rtol=0, atol=0, equal_nan=True):
            raise InputError(
                f"{type(model).__name__}: records reach the output on a path around the PrivateActivation, without "
                "noise; remove the skip connection, or put the layer behind it"
            )


@contextmanager
def _at_layers(model: nn.Module, register: Callable[..., RemovableHandle], act: Any) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, PrivateActivation)]
    hooks = [register(layer, act) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _leaves(node: Any) -> Iterator[Tensor]:
    """Leaf tensors that a node of the autograd graph leads back to."""
    seen, ahead = set(), [node]
    while ahead:
        here = ahead.pop()
        if here is None or here in seen:
            continue
        seen.add(here)
        if hasattr(here, "variable"):
            yield here.variable
        ahead += [parent for parent, _ in here.next_functions]


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
