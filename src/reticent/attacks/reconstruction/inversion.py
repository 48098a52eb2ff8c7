"""Gradient inversion by search: the images whose gradient is most like the one that was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reticent.attacks.reconstruction.objectives import (
    Objective,
    cosine,
    layerwise_cosine,
    likelihood,
    squared,
    total_variation,
)
from reticent.attacks.reconstruction.observed import NO_DEFENCE, Defence
from reticent.attacks.reconstruction.soft_loss import SoftLoss
from reticent.errors import InputError
from reticent.training.real_coordinates import real_coordinates

ObjectiveName = Literal["cosine", "layer-wise", "squared", "likelihood"]
_FAINTEST = 2e-3
_LBFGS_INNER = 20


@dataclass(frozen=True)
class Search:
    """How to search. `smoothness` weights the total variation of images in [0, 1].

    With "likelihood", which knows clipping norm and noise, it is the mean absolute difference that neighbouring pixels
    are believed to have: the search is then for the most probable images under a Laplace prior on differences.
    """

    objective: ObjectiveName
    optimiser: Literal["adam", "signed-adam", "lbfgs"] = "adam"
    iterations: int = 600
    learning_rate: float = 0.05
    smoothness: float = 1e-3
    start: Literal["uniform", "normal"] = "uniform"
    restarts: int = 1


SEARCHES: dict[str, Search] = {
    "inverting-gradients": Search("cosine", "signed-adam", 400, 0.1, 0.1, "normal"),
    "cosine": Search("cosine", "adam", 800, 0.1, 0.2),
    "layer-wise": Search("layer-wise"),
    "deep-leakage": Search("squared", "lbfgs", 300, 1.0, 0.0, "normal"),
    "likelihood": Search("likelihood", smoothness=0.03),
}
"""Geiping et al. 2020, shortened; the same with plain steps, and smoother; every layer counted alike; Zhu et al. 2019;
and the most probable image where clipping and noise are known. Which is best depends on the network: try on public
images.
"""


@dataclass(frozen=True)
class Inversion:
    """What the search found."""

    images: Tensor
    """(records, C, ...), in the units that the network is fed."""
    targets: Tensor
    """Probabilities, as known or as found."""
    distance: float
    """Of the gradients, by the search's objective, of these images: the lowest of all restarts and iterations."""
    history: tuple[float, ...]
    """The best restart's distance at each iteration."""


def invert_gradient(
    model: nn.Module,
    losses: SoftLoss,
    seen: Mapping[str, Tensor],
    shape: tuple[int, ...],
    *,
    search: Search,
    targets: Tensor | None = None,
    unknown: Callable[[Tensor], Tensor] | None = None,
    unknown_shape: tuple[int, ...] = (),
    records: int = 1,
    box: tuple[float, float] = (0.0, 1.0),
    defence: Defence = NO_DEFENCE,
    seed: int = 0,
) -> Inversion:
    """Search for the images of a batch, and for its targets unless they are known.

    Args:
        model: as the server sent it; its parameters are not changed.
        losses: of each record; their sum is what was differentiated.
        seen: gradient of the sum by parameter.
        shape: of one image, (C, ...).
        targets: probabilities (records, ...); None: `unknown` turns free numbers (records, *unknown_shape) into them.
        box: darkest and brightest intensity that the network is fed.
        defence: what was done to the gradients. "likelihood" clips its candidates' alike, and takes the noise to be at
            least 0.002 of the seen gradient's norm: fits that are finer are not found in so few iterations.

    Raises:
        InputError: targets are neither known nor to be searched for.
    """
    if (targets is None) == (unknown is None):
        raise InputError("give either targets, which are known then, or unknown, which makes them of free numbers")
    problem = _Problem(model, losses, dict(seen), search, targets, unknown, box, defence)
    best: Inversion | None = None
    for restart in range(search.restarts):
        generator = torch.Generator().manual_seed(seed + restart)
        free = [_start(search, (records, *shape), generator)]
        if unknown is not None:
            free.append(torch.zeros(records, *unknown_shape))
        found = _lbfgs(problem, free) if search.optimiser == "lbfgs" else _adam(problem, free)
        if best is None or found.distance < best.distance:
            best = found
    assert best is not None
    return best


@dataclass
class _Problem:
    """Distance and roughness of candidates, and the best one so far."""

    model: nn.Module
    losses: SoftLoss
    seen: dict[str, Tensor]
    search: Search
    targets: Tensor | None
    unknown: Callable[[Tensor], Tensor] | None
    box: tuple[float, float]
    defence: Defence

    def __post_init__(self) -> None:
        named = dict(self.model.named_parameters())
        self.parameters = [named[name] for name in self.seen]
        self.goal = [real_coordinates(g.to(p)) for g, p in zip(self.seen.values(), self.parameters, strict=True)]
        norm = float(torch.stack([g.square().sum() for g in self.goal]).sum().sqrt())
        self.objective: Objective = {
            "cosine": cosine,
            "layer-wise": layerwise_cosine,
            "squared": squared,
            "likelihood": likelihood(max(self.defence.noise_std, _FAINTEST * norm)),
        }[self.search.objective]

    def fed(self, unit: Tensor) -> Tensor:
        """Images in [0, 1] as the network is fed them."""
        return self.box[0] + (self.box[1] - self.box[0]) * unit

    def probabilities(self, free: list[Tensor]) -> Tensor:
        """The targets, as known or as the free numbers have them."""
        return self.targets if self.targets is not None else self.unknown(free[1])  # type: ignore[misc]

    def distance(self, free: list[Tensor]) -> Tensor:
        """Of the candidates' gradient from the one seen."""
        images, targets = self.fed(free[0]), self.probabilities(free)
        if self.search.objective != "likelihood" or self.defence.max_norm is None:
            return self.objective(self._gradient(images, targets), self.goal)
        clipped = [self._clipped(self._gradient(i[None], t[None])) for i, t in zip(images, targets, strict=True)]
        return self.objective([torch.stack(parts).sum(0) for parts in zip(*clipped, strict=True)], self.goal)

    def roughness(self, free: list[Tensor]) -> Tensor:
        """What the prior adds to the distance."""
        weight = self.search.smoothness
        if not weight:
            return torch.zeros(())
        if self.search.objective == "likelihood":
            return total_variation(free[0]) * free[0].numel() * (free[0].ndim - 2) / weight
        return weight * total_variation(free[0])

    def _gradient(self, images: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        total = self.losses(self.model, images, targets).sum()
        return tuple(real_coordinates(g) for g in torch.autograd.grad(total, self.parameters, create_graph=True))

    def _clipped(self, gradient: tuple[Tensor, ...]) -> list[Tensor]:
        assert self.defence.max_norm is not None
        norm = torch.stack([g.square().sum() for g in gradient]).sum().sqrt()
        factor = (self.defence.max_norm / norm.clamp_min(1e-12)).clamp(max=1)
        return [factor * g for g in gradient]


class _Best:
    """Keeps the candidate of least distance."""

    def __init__(self, problem: _Problem) -> None:
        self.problem, self.distance = problem, float("inf")
        self.history: list[float] = []
        self.free: list[Tensor] = []

    def offer(self, distance: float, free: list[Tensor]) -> None:
        self.history.append(distance)
        if distance < self.distance or not self.free:
            self.distance, self.free = distance, [x.detach().clone() for x in free]

    def inversion(self) -> Inversion:
        images = self.problem.fed(self.free[0].clamp(0, 1))
        with torch.no_grad():
            targets = self.problem.probabilities(self.free)
        return Inversion(images, targets.detach(), self.distance, tuple(self.history))


def _start(search: Search, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if search.start == "uniform":
        return torch.rand(shape, generator=generator)
    return 0.5 + 0.25 * torch.randn(shape, generator=generator)


def _adam(problem: _Problem, free: list[Tensor]) -> Inversion:
    search = problem.search
    for x in free:
        x.requires_grad_(True)
    optimiser = torch.optim.Adam(free, lr=search.learning_rate)
    total = search.iterations
    rate = (
        torch.optim.lr_scheduler.MultiStepLR(optimiser, [total * 3 // 8, total * 5 // 8, total * 7 // 8], 0.1)
        if search.optimiser == "signed-adam"
        else torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
    )
    best = _Best(problem)
    for _ in range(total):
        distance = problem.distance(free)
        best.offer(float(distance.detach()), free)
        gradients = torch.autograd.grad(distance + problem.roughness(free), free)
        for x, g in zip(free, gradients, strict=True):
            x.grad = g.sign() if search.optimiser == "signed-adam" else g
        optimiser.step()
        rate.step()
        with torch.no_grad():
            free[0].clamp_(0, 1)
    best.offer(float(problem.distance(free).detach()), free)
    return best.inversion()


def _lbfgs(problem: _Problem, free: list[Tensor]) -> Inversion:
    for x in free:
        x.requires_grad_(True)
    search, best = problem.search, _Best(problem)
    optimiser = torch.optim.LBFGS(free, lr=search.learning_rate, max_iter=_LBFGS_INNER)

    def closure() -> Tensor:
        optimiser.zero_grad()
        distance = problem.distance(free)
        if distance.isfinite():
            best.offer(float(distance.detach()), free)
        whole = distance + problem.roughness(free)
        for x, g in zip(free, torch.autograd.grad(whole, free), strict=True):
            x.grad = g
        return whole

    for _ in range(max(1, search.iterations // _LBFGS_INNER)):
        optimiser.step(closure)
    return best.inversion()
