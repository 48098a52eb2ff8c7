"""Attacks: what the best known adversaries recover from a run, as findings beside its guarantee."""

from reticent.attacks.loaded_run import LoadedRun, fresh_seed
from reticent.attacks.options import AttackOptions
from reticent.attacks.registry import ATTACKS, Attack

__all__ = ["ATTACKS", "Attack", "AttackOptions", "LoadedRun", "fresh_seed"]
