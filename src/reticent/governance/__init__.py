"""Governance: the site ledger that charges every job to its patients, and the budgets it holds them to."""

from reticent.governance.budget import Budget
from reticent.governance.chain import Entry
from reticent.governance.ledger import Ledger, ledger_path
from reticent.governance.spending import Spending

__all__ = ["Budget", "Entry", "Ledger", "Spending", "ledger_path"]
