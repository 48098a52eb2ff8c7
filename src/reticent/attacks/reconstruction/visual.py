"""Visual audit: what a level of noise leaves of an image for an attacker who knows what such images look like.

Schwethelm et al. (2025, TMLR): malicious parameters turn a private step into the image plus Gaussian noise, and a prior
trained on public images denoises it. A heuristic: success shows a risk, failure proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reticent.accounting import Certified, Gaussian
from reticent.attacks.reconstruction.comparison import Compared, compared, share
from reticent.attacks.reconstruction.matching import reidentified
from reticent.attacks.reconstruction.observed import Defence
from reticent.attacks.reconstruction.optimal_linear import optimal_linear_attack
from reticent.attacks.reconstruction.priors import Prior
from reticent.attacks.reconstruction.scores import Metric
from reticent.records import Interval
from reticent.training.noise import RandomSource, SeededSource

METRICS: tuple[Metric, ...] = ("MSE", "PSNR", "SSIM", "NCC")


@dataclass(frozen=True)
class Level:
    """One amount of noise: what was seen and what was made of it, (n, C, ...) in units of [0, 1]."""

    noise_multiplier: float
    noise_std: Tensor
    """On every pixel of each image, (n,), in units of [0, 1]."""
    seen: Tensor
    found: Tensor
    scores: dict[Metric, Compared]
    """Of what was found, beside the prior's answer without a look."""
    seen_scores: dict[Metric, Compared]
    """Of what was seen, beside the same."""
    hits: Tensor
    """Whether the gallery's image nearest to what was seen, hence the most likely one, is the target, (n,)."""
    reidentified: float
    """Share of hits; needs no prior."""
    interval: Interval
    recognised: float
    """Share of targets that are the gallery's image most like the denoised one."""
    bound: Certified
    """On identification in the gallery, by any attacker: gamma(1 / gallery)."""
    unbiased_mse: float
    """Expected of the best unbiased attack from scratch, and with norm-informed shrinkage."""
    shrinkage_mse: float


@dataclass(frozen=True)
class VisualAudit:
    """Images and levels of noise, from little to much."""

    images: Tensor
    """(n, C, ...) in [0, 1]."""
    guess: Tensor
    """The prior's answer without a look, (C, ...)."""
    gallery: int
    prior: str
    levels: tuple[Level, ...]

    def table(self) -> list[dict[str, float]]:
        """A row for each level, and its prior-only value beside each score."""
        rows = []
        for level in self.levels:
            row = {"noise multiplier": level.noise_multiplier, "noise std": float(level.noise_std.mean())}
            for metric, compared_ in level.scores.items():
                row |= {metric: compared_.value, f"{metric}, prior only": compared_.baseline}
                row[f"{metric}, seen"] = level.seen_scores[metric].value
            row |= {"re-identified": level.reidentified, "recognised when denoised": level.recognised}
            row |= {"bound": level.bound.upper}
            row |= {"expected MSE, unbiased": level.unbiased_mse, "expected MSE, shrinkage": level.shrinkage_mse}
            rows.append(row)
        return rows


def privatise_image(
    images: Tensor, defence: Defence, source: RandomSource, *, observations: int = 1
) -> tuple[Tensor, Tensor]:
    """What the best linear attack reads of images (n, C, ...) in private steps, and the noise on it (n,).

    In the units that the network is fed; see `optimal_linear_attack`. Without noise: the images, and zeros.
    """
    if not defence.noise_std:
        return images, torch.zeros(len(images))
    attack = optimal_linear_attack(images, defence, source, observations=observations)
    return attack.unbiased, torch.tensor([math.sqrt(law.noise_variance) for law in attack.laws])


def visual_audit(
    images: Tensor,
    prior: Prior,
    noise_multipliers: Sequence[float],
    *,
    max_norm: float = 1.0,
    gallery: Tensor | None = None,
    observations: int = 1,
    box: tuple[float, float] = (0.0, 1.0),
    confidence: float = 0.95,
    seed: int = 0,
) -> VisualAudit:
    """Attack images at each amount of noise.

    Args:
        images: (n, C, ...), in the units that the network is fed.
        gallery: images of others, among which the attacker looks for the target; None: the other targets alone.
        observations: steps that the attacker knows the patient to be in.
        box: intensities that the network is fed for 0 and 1.
    """
    width = box[1] - box[0]
    targets = (images - box[0]) / width
    everyone = targets if gallery is None else torch.cat([targets, (gallery - box[0]) / width])
    levels = []
    for number, sigma in enumerate(sorted(noise_multipliers)):
        source = SeededSource(seed, 10 + number)
        seen, std = privatise_image(images, Defence(max_norm, sigma), source, observations=observations)
        seen, std = (seen - box[0]) / width, std / width
        look = _Look(sigma, seen, std, images.double().flatten(1).square().sum(1) / width**2, observations)
        levels.append(_level(targets, prior, look, everyone, confidence))
    return VisualAudit(targets, prior.mean, len(everyone), prior.source, tuple(levels))


def smallest_hiding_noise(
    images: Tensor, prior: Prior, most: float, *, low: float = 1e-4, high: float = 100.0, **options: object
) -> float:
    """A noise multiplier, to within 5 %, at which at most a share `most` is re-identified, and above by little less.

    By bisection over `visual_audit` with one seed: it is an estimate about this attack, not a guarantee.
    """
    while high / low > 1.05:
        middle = math.sqrt(low * high)
        found = visual_audit(images, prior, [middle], **options).levels[0].reidentified  # type: ignore[arg-type]
        low, high = (middle, high) if found > most else (low, middle)
    return high


@dataclass(frozen=True)
class _Look:
    """What was seen of the images at one amount of noise, in units of [0, 1]."""

    sigma: float
    seen: Tensor
    std: Tensor
    energy: Tensor
    """Squared norms of the images as the network is fed them, in these units: (n,)."""
    observations: int


def _level(targets: Tensor, prior: Prior, look: _Look, everyone: Tensor, confidence: float) -> Level:
    seen, std, energy = look.seen, look.std, look.energy
    found = prior.denoise(seen, std)
    guess = prior.mean[None].to(targets)
    own = torch.arange(len(targets))
    hits = reidentified(seen, everyone, own)
    value, interval = share(hits, confidence)
    pixels, variance = targets[0].numel(), std.double().square()
    return Level(
        noise_multiplier=look.sigma,
        noise_std=std,
        seen=seen,
        found=found,
        scores={m: compared(m, targets, found, guess, confidence=confidence) for m in METRICS},
        seen_scores={m: compared(m, targets, seen, guess, confidence=confidence) for m in METRICS},
        hits=hits,
        reidentified=value,
        interval=interval,
        recognised=share(reidentified(found, everyone, own))[0],
        bound=_bound(look.sigma, look.observations, len(everyone)),
        unbiased_mse=float(variance.mean()),
        shrinkage_mse=float((variance * energy / (energy + pixels * variance)).mean()),
    )


def _bound(sigma: float, observations: int, gallery: int) -> Certified:
    if not sigma:
        return Certified(1.0, 1.0, "upper")
    return Gaussian(sigma, steps=observations).profile().reconstruction(1 / gallery)
