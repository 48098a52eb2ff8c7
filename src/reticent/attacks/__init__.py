"""Attacks: what the best known adversaries recover from a run, as findings beside its guarantee."""

from reticent.attacks.auditing.lower_bounds import epsilon_lower_bound, mu_lower_bound
from reticent.attacks.auditing.script import audit_script
from reticent.attacks.loaded_run import LoadedRun, fresh_seed
from reticent.attacks.options import AttackOptions
from reticent.attacks.registry import ATTACKS, Attack, chosen_attacks
from reticent.attacks.roc import auc, found_at
from reticent.attacks.unfinished import UnfinishedAudit

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackOptions",
    "LoadedRun",
    "UnfinishedAudit",
    "auc",
    "audit_script",
    "chosen_attacks",
    "epsilon_lower_bound",
    "found_at",
    "fresh_seed",
    "mu_lower_bound",
]
