"""Jobs under different neighbouring relations: both are shown, and no budget adds them up."""

import pytest

from reticent.accounting import Composition, LocalGaussian, SubsampledGaussian
from reticent.errors import InputError
from reticent.governance import Budget, Ledger

SUMS, VECTORS = SubsampledGaussian(2.0, 0.1, 100), LocalGaussian(4.0)
PATIENTS = [f"patient {k}" for k in range(6)]


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def reserve(ledger, run, mechanism, subjects=PATIENTS, budget=None):
    ledger.reserve(
        run=run, cohort="chest", fingerprint="f", subjects=subjects, unit="subject", mechanism=mechanism, budget=budget
    )


def test_each_relation_is_a_statement_of_its_own_and_no_job_is_left_out(ledger):
    reserve(ledger, "first", SUMS)
    reserve(ledger, "second", VECTORS, PATIENTS[:4])
    reserve(ledger, "third", SUMS, PATIENTS[:4])
    reserve(ledger, "nothing", VECTORS, PATIENTS[:4])
    ledger.settle("nothing", None)
    assert ledger.spent_by_relation("patient 1") == [Composition((SUMS, SUMS)), Composition((VECTORS,))]
    assert ledger.spent_by_relation("patient 5") == [Composition((SUMS,))]
    assert ledger.spent_by_relation("nobody") == []
    with pytest.raises(InputError, match="neighbouring_relation"):
        ledger.spent("patient 1")
    found = {(group.subjects, group.runs, group.mechanism) for group in ledger.spending()}
    assert found == {
        (4, ("first", "third", "nothing"), Composition((SUMS, SUMS))),
        (4, ("second",), Composition((VECTORS,))),
        (2, ("first",), Composition((SUMS,))),
    }


def test_local_releases_add_up_under_a_budget_of_their_own(ledger):
    budget = Budget(mu=0.8)
    for run in ("first", "second"):
        reserve(ledger, run, VECTORS, budget=budget)  # mu 0.5 each
    with pytest.raises(InputError, match="6 of its 6 subjects would exceed it"):
        reserve(ledger, "third", VECTORS, budget=budget)


@pytest.mark.parametrize(("earlier", "later"), [(SUMS, VECTORS), (VECTORS, SUMS)])
def test_a_budget_admits_no_job_under_another_relation(ledger, earlier, later):
    reserve(ledger, "first", earlier, budget=Budget(mu=9.0))
    with pytest.raises(InputError, match="which no budget adds up with one under"):
        reserve(ledger, "second", later)
    reserve(ledger, "second", later, ["somebody else"], budget=Budget(mu=9.0))
