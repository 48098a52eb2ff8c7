"""Budgets as written on the command line."""

import pytest

from reticent.errors import InputError
from reticent.governance import Budget


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mu=2", Budget(mu=2.0)),
        ("epsilon=8,delta=1e-5", Budget(epsilon=8.0, delta=1e-5)),
        (" delta = 1e-6 , epsilon = 1 ", Budget(epsilon=1.0, delta=1e-6)),
    ],
)
def test_a_written_budget_is_read_and_survives_storage(text, expected):
    assert Budget.parse(text) == expected
    assert Budget.from_dict(expected.to_dict()) == expected
    assert Budget.parse(str(expected)) == expected


def test_delta_may_come_from_the_study():
    assert Budget.parse("epsilon=8", default_delta=1e-4) == Budget(epsilon=8.0, delta=1e-4)
    assert Budget.parse("mu=1", default_delta=1e-4) == Budget(mu=1.0)


@pytest.mark.parametrize(
    "text", ["", "2", "mu=two", "mu=0", "mu=-1", "epsilon=8", "delta=1e-5", "mu=1,epsilon=2,delta=1e-5", "mu=1,mu=2",
             "epsilon=8,delta=2", "sigma=1"]
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(InputError):
        Budget.parse(text)
