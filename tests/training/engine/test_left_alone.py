"""The model is as it was, whatever happened inside: parameters, attributes, hooks, buffers, and the library itself."""

import copy
import warnings

import pytest
import torch
import torch.utils.checkpoint as checkpoints
from layer_uses import Forward
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import CheckpointFunction, checkpoint
from unit_loop import weighted_outputs

from reticent.errors import InputError
from reticent.training import check_independence, clipped_grad

ATTRIBUTES = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)  # fmt: skip


class Interrupted(BaseException):
    """What ends a run from outside, as KeyboardInterrupt does."""


class FailsBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        raise KeyError("in the backward pass")


def network():
    def forward(m, x):
        y = checkpoint(m.block, m.conv(x) * m.scale, use_reentrant=False)
        return m.head(y + m.offset).flatten(1)

    model = Forward(
        forward,
        conv=nn.Conv2d(1, 4, 3),
        block=nn.Sequential(nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv2d(4, 4, 1)),
        head=nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
        scale=nn.Parameter(torch.ones(4, 1, 1)),
    )
    model.register_buffer("offset", torch.zeros(4))
    model.conv.bias.requires_grad_(False)
    return model


def state_of(model):
    """Everything that could be found changed, by identity where identity counts."""
    stack = _get_current_function_mode_stack()
    everything = {
        "modes": len(stack), "checkpoint": id(checkpoints._checkpoint_without_reentrant_generator),
        "reentrant": id(CheckpointFunction.apply.__func__), "own apply": "apply" in CheckpointFunction.__dict__,
        "grad": torch.is_grad_enabled(), "stance": torch._dynamo.eval_frame._stance.stance,
    }  # fmt: skip
    for name, module in model.named_modules():
        everything[name, "attributes"] = tuple(module.__dict__)
        everything[name, "training"] = module.training
        everything |= {(name, attribute): dict(getattr(module, attribute)) for attribute in ATTRIBUTES}
        for kind in ("_parameters", "_buffers"):
            for key, value in getattr(module, kind).items():
                kept = None if value is None else (id(value), value._version, value.requires_grad, tuple(vars(value)))
                everything[name, kind, key] = kept
    return everything


FAILURES = {
    "nothing": (None, None),
    "an error in the loss": (KeyError("in the loss"), "loss"),
    "an error in a layer": (KeyError("in a layer"), "layer"),
    "an error in the backward pass": (KeyError("in the backward pass"), "backward"),
    "an interruption": (Interrupted("now"), "layer"),
}


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize(("error", "where"), FAILURES.values(), ids=FAILURES)
def test_nothing_is_left_on_the_model_or_the_library(error, where, memory):
    torch.manual_seed(0)
    model, batch = network(), {"x": torch.randn(3, 1, 6, 6)}
    units = torch.tensor([0, 1, 1])
    clipped_grad(model, weighted_outputs, batch, max_norm=1.0, units=units, memory=memory)  # checks, measures
    values = {name: value.clone() for name, value in model.state_dict().items()}
    handle = model.block.register_forward_hook(lambda *_: raise_(error)) if where == "layer" else None
    before = state_of(model)

    def loss_fn(model, batch):
        losses = weighted_outputs(model, batch)
        if where == "loss":
            raise error
        return FailsBackward.apply(losses) if where == "backward" else losses

    if error is None:
        clipped_grad(model, loss_fn, batch, max_norm=1.0, units=units, memory=memory)
    else:
        with pytest.raises(type(error), match=error.args[0]):
            clipped_grad(model, loss_fn, batch, max_norm=1.0, units=units, memory=memory)
    assert state_of(model) == before
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    if handle is not None:
        handle.remove()


def raise_(error):
    raise error


class WritesAndStops(nn.Linear):
    """Adds a patient to a buffer in the second pass, and is interrupted right there."""

    def __init__(self):
        super().__init__(4, 2)
        self.register_buffer("seen", torch.zeros(()))
        self.stops = False

    def forward(self, x):
        if self.stops:
            self.seen.data = torch.ones(())
            raise Interrupted("now")
        return super().forward(x)


def test_what_a_forward_pass_wrote_is_taken_back_when_it_is_interrupted():
    model, batch = WritesAndStops(), {"x": torch.randn(3, 4)}
    clipped_grad(model, weighted_outputs, batch, max_norm=1.0)
    buffer, model.stops = model.seen, True
    with pytest.raises(Interrupted):
        clipped_grad(model, weighted_outputs, batch, max_norm=1.0)
    assert model.seen is buffer
    assert model.seen == 0


class Remembers(nn.Linear):
    """Stores what it saw, as attention layers do with their maps, and counts its calls."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        self.seen = y = super().forward(x)
        self.history = [*getattr(self, "history", []), y]
        return y * (1.0 if self.vectorised or y.sum().item() else 2.0)


@pytest.mark.parametrize("vectorised", [True, False])
def test_tensors_that_a_forward_pass_stores_are_taken_back(vectorised):
    model = Remembers(4, 2)
    model.vectorised, model.history = vectorised, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clipped_grad(model, weighted_outputs, {"x": torch.randn(3, 4)}, max_norm=1.0)
    assert not hasattr(model, "seen")
    assert model.history == []
    assert model.calls > 0
    copy.deepcopy(model)


def test_ordinary_training_goes_on_as_before():
    torch.manual_seed(0)
    model, batch = network(), {"x": torch.randn(3, 1, 6, 6)}

    def gradients():
        model.zero_grad()
        weighted_outputs(model, batch).sum().backward()
        found = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        model.zero_grad()
        return found

    expected = gradients()
    clipped_grad(model, weighted_outputs, batch, max_norm=1.0)
    assert all(torch.equal(a, b) for a, b in zip(gradients(), expected, strict=True))


class Keeps(nn.Linear):
    """Has no buffer before its first forward pass, or an empty one."""

    def __init__(self, *, persistent, empty):
        super().__init__(3, 2)
        self.persistent = persistent
        if empty:
            self.register_buffer("seen", None, persistent)

    def forward(self, x):
        if getattr(self, "seen", None) is None:
            self.register_buffer("seen", x.detach().mean(-1), self.persistent)
        return super().forward(x)


@pytest.mark.parametrize("empty", [False, True])
def test_a_buffer_that_a_forward_pass_makes_is_refused_or_taken_back(empty):
    """It would be released with the weights, and hold the first batch."""
    x = torch.randn(3, 3)
    for persistent in (True, False):
        model = Keeps(persistent=persistent, empty=empty)
        before = list(model.state_dict()), dict(model._buffers)
        check = [
            lambda model=model: check_independence(model, x),
            lambda model=model: clipped_grad(model, weighted_outputs, {"x": x}, max_norm=1.0),
        ]
        for run in check:
            if persistent:
                with pytest.raises(InputError, match="'seen' is written during the forward pass"):
                    run()
            else:
                run()
            assert (list(model.state_dict()), dict(model._buffers)) == before
