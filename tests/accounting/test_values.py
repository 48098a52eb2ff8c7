"""How bounds and estimates print and serialise."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from reticent.accounting import Certified, EmpiricalLowerBound, Estimate


@given(st.floats(1e-30, 1e30))
def test_printing_rounds_to_the_safe_side(value):
    printed = {side: Decimal(str(Certified(value, value, side))) for side in ("upper", "lower")}
    assert printed["lower"] <= Decimal(value) <= printed["upper"]
    assert printed["upper"] - printed["lower"] <= Decimal(value) * Decimal("0.00101")


def test_bounds_and_estimates_print_and_serialise_differently():
    assert str(Certified(6.1, 6.18771, "upper")) == "≤ 6.188"
    assert str(Certified(0.15394, 0.2, "lower")) == "≥ 0.1539"
    assert str(Estimate(6.18771, "central limit")) == "≈ 6.188"
    assert Certified(1.0, 2.0, "upper").to_dict() == {"lower": 1.0, "upper": 2.0, "kind": "upper bound"}
    assert Certified(2.0, 2.0, "upper").to_dict()["kind"] == "exact"
    assert Estimate(1.0, "x").to_dict() == {"lower": None, "upper": None, "value": 1.0, "kind": "estimate"}
    assert Certified(1.0, 2.0, "lower").safe == 1.0
    shown = EmpiricalLowerBound(1.83999, 0.95, "one run")
    assert str(shown) == "≥ 1.839 (95 %)"
    assert shown.to_dict() == {
        "lower": 1.83999, "upper": None, "confidence": 0.95, "method": "one run", "kind": "empirical lower bound",
    }  # fmt: skip
