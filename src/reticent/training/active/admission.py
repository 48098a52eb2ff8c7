"""What a campaign refuses before its first batch is selected."""

from __future__ import annotations

import operator
from functools import reduce

from reticent.accounting import SubsampledGaussian
from reticent.errors import InputError
from reticent.governance import Budget
from reticent.records import Study
from reticent.training.active.planning import ActivePlan


def require_plain(study: Study) -> None:
    """Refuse options that the plan of a campaign does not account for.

    Raises:
        InputError: names the option.
    """
    privacy, training = study.privacy, study.training
    for wrong, option in (
        (privacy.non_private or training.twin, "--non-private and --twin train"),
        (privacy.groups > 1, "--noise banded trains"),
        (training.class_weights == "counted", "--class-weights counted trains"),
        (study.cohort.unit == "record", "--unit record trains"),
        (privacy.private_activations, "--private-activations trains"),
        (training.mask_weight is not None, "--mask-weight trains"),
        (study.cohort.pretrain, "--pretrain trains"),
        (training.optimiser == "langevin", "--optimiser langevin samples"),
    ):
        if wrong:
            raise InputError(f"{option} on what is no part of a campaign's plan; leave it out")


def require_budget(study: Study, plan: ActivePlan) -> None:
    """Refuse a plan that its own budget would stop half-way, when labels were given already.

    Raises:
        InputError: a group would exceed it, whatever its patients had spent before.
    """
    if study.privacy.budget is None:
        return
    budget = Budget.parse(study.privacy.budget, plan.delta)
    rule = budget.filter()
    for group in range(len(plan.phases)):
        phases = [m for m in plan.mechanism(group).mechanisms if isinstance(m, SubsampledGaussian)]
        rounds = group if plan.round_epsilon else 0
        costs = [rule.charge(m) for m in phases] + [rule.charge(plan.selection()) for _ in range(rounds)]
        total = reduce(operator.add, costs)
        if not rule.admits(total):
            raise InputError(
                f"budget {budget}: the plan spends {rule.spent(total)} of it on the patients of group {group}, by the "
                "budget's own looser account; lower --epsilon or raise the budget"
            )
