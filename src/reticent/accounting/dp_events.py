"""Mechanisms from and to the events of Google's dp-accounting, which has to be installed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reticent.accounting.mechanisms import (
    BandedGaussian,
    ComplexGaussian,
    Composition,
    FixedSizeGaussian,
    Gaussian,
    Laplace,
    LocalGaussian,
    Mechanism,
    Repetition,
    SubsampledGaussian,
    Unbounded,
)
from reticent.errors import InputError

if TYPE_CHECKING:
    from dp_accounting import DpEvent


def from_dp_event(event: DpEvent) -> Mechanism:
    """The mechanism that a `dp_accounting.DpEvent` describes.

    Events under Poisson sampling or none stand for add-or-remove-one. Sampling without replacement stands for
    replace-one, its noise multiplier for the noise over the change that a replacement makes, twice the clip norm.

    Raises:
        InputError: there is no such mechanism here; the message names the event.
    """
    import dp_accounting as dp

    match event:
        case dp.GaussianDpEvent():
            return Gaussian(event.noise_multiplier)
        case dp.LaplaceDpEvent():
            return Laplace(event.noise_multiplier)
        case dp.PoissonSampledDpEvent():
            return _sampled(event.sampling_probability, event.event)
        case dp.SampledWithoutReplacementDpEvent(event=dp.GaussianDpEvent() as inner):
            return FixedSizeGaussian(2 * inner.noise_multiplier, event.sample_size, event.source_dataset_size, 1)
        case dp.SelfComposedDpEvent():
            return _times(from_dp_event(event.event), event.count)
        case dp.ComposedDpEvent() if event.events:
            return Composition(tuple(from_dp_event(part) for part in event.events))
        case dp.NonPrivateDpEvent():
            return Unbounded("a non-private event")
    raise InputError(f"event {type(event).__name__}: no mechanism for it; give its privacy loss as DiscreteLoss")


def to_dp_event(mechanism: Mechanism) -> DpEvent:
    """The `dp_accounting.DpEvent` that describes a mechanism.

    Raises:
        InputError: dp-accounting has no event for it.
    """
    import dp_accounting as dp

    match mechanism:
        case Gaussian() | SubsampledGaussian() | ComplexGaussian() | BandedGaussian():
            ((release,),) = mechanism.plans
            plain: DpEvent = dp.GaussianDpEvent(release.loss.noise_multiplier)  # type: ignore[attr-defined]
            rate = release.loss.rate  # type: ignore[attr-defined]
            one = plain if rate == 1 else dp.PoissonSampledDpEvent(rate, plain)
            return _repeated(one, release.times)
        case FixedSizeGaussian():
            plain = dp.GaussianDpEvent(mechanism.noise_multiplier / 2)
            one = dp.SampledWithoutReplacementDpEvent(mechanism.population, mechanism.sample_size, plain)
            return _repeated(one, mechanism.steps)
        case LocalGaussian():
            return _repeated(dp.GaussianDpEvent(mechanism.noise_multiplier / 2), mechanism.steps)
        case Laplace():
            plain = dp.LaplaceDpEvent(mechanism.noise_multiplier)
            one = plain if mechanism.sampling_rate == 1 else dp.PoissonSampledDpEvent(mechanism.sampling_rate, plain)
            return _repeated(one, mechanism.steps)
        case Repetition():
            return dp.SelfComposedDpEvent(to_dp_event(mechanism.mechanism), mechanism.times)
        case Composition():
            return dp.ComposedDpEvent([to_dp_event(part) for part in mechanism.mechanisms])
        case Unbounded():
            return dp.NonPrivateDpEvent()
    raise InputError(f"mechanism {type(mechanism).__name__}: dp-accounting has no event for it")


def _sampled(rate: float, event: DpEvent) -> Mechanism:
    inner = from_dp_event(event)
    match inner:
        case Gaussian(steps=1):
            return SubsampledGaussian(inner.noise_multiplier, rate, 1)
        case Laplace(steps=1, sampling_rate=1.0):
            return Laplace(inner.noise_multiplier, rate)
    name = type(inner).__name__
    raise InputError(f"Poisson sampling around {name}: only one Gaussian or Laplace release is known")


def _times(inner: Mechanism, times: int) -> Mechanism:
    match inner:
        case Gaussian(steps=1):
            return Gaussian(inner.noise_multiplier, times)
        case SubsampledGaussian(steps=1):
            return SubsampledGaussian(inner.noise_multiplier, inner.sampling_rate, times)
        case FixedSizeGaussian(steps=1):
            return FixedSizeGaussian(inner.noise_multiplier, inner.sample_size, inner.population, times)
    return inner if times == 1 else Repetition(inner, times)


def _repeated(event: DpEvent, times: int) -> DpEvent:
    from dp_accounting import SelfComposedDpEvent

    return event if times == 1 else SelfComposedDpEvent(event, times)
