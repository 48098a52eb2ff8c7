"""The clipped-sum engine: exact for any network, native rules for the layers that matter."""

from reticent.training.engine.batches import BatchAdapter
from reticent.training.engine.clipped_grad import ClippedGrad, PrivateTensor, clipped_grad
from reticent.training.engine.footprint import Footprint
from reticent.training.engine.independence import check_independence
from reticent.training.engine.plans import chosen_strategies
from reticent.training.engine.strategies import strategy
from reticent.training.engine.unit_gradients import LossFn, footprint

__all__ = [
    "BatchAdapter",
    "ClippedGrad",
    "Footprint",
    "LossFn",
    "PrivateTensor",
    "check_independence",
    "chosen_strategies",
    "clipped_grad",
    "footprint",
    "strategy",
]
