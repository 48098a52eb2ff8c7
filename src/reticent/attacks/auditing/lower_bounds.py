"""Empirical lower bounds on epsilon and mu from canaries' scores, by name of the method."""

from __future__ import annotations

from typing import Literal

from numpy.typing import ArrayLike

from reticent.accounting import EmpiricalLowerBound, Gaussian
from reticent.attacks.auditing import independent_bounds, one_run_bounds
from reticent.attacks.auditing.one_run_bounds import guess, guesses_for
from reticent.attacks.scores import require_scores

Method = Literal["one-run", "one-run-gaussian", "independent", "independent-gaussian"]


def epsilon_lower_bound(
    in_scores: ArrayLike,
    out_scores: ArrayLike,
    delta: float,
    confidence: float = 0.95,
    method: Method = "one-run",
    *,
    expected_mu: float = 1.0,
    seed: int = 0,
) -> EmpiricalLowerBound:
    """Lower bound on the epsilon at `delta` of an algorithm, from the scores of canaries that were in and out.

    | method | needs | assumes of the algorithm |
    |---|---|---|
    | `one-run` | one run; each canary in by a fair coin of its own | nothing |
    | `one-run-gaussian` | the same | a Gaussian trade-off curve |
    | `independent` | one run a score, or canaries that cannot influence each other's scores | nothing |
    | `independent-gaussian` | the same | a Gaussian trade-off curve |

    Args:
        in_scores: of the canaries that were in, higher for what looks like a member.
        expected_mu: what the number of guesses of the one-run methods is chosen for; fixed before scores are seen.
        seed: orders equal scores, and splits the games in those that choose the threshold and those that count.

    Raises:
        InputError: a score is NaN, or there are too few.
    """
    level = 1 - confidence
    if method == "one-run":
        canaries = len(require_scores(in_scores)) + len(require_scores(out_scores))
        each = guesses_for(canaries, expected_mu, lambda g: one_run_bounds.epsilon_at(g, delta, level))
        value = one_run_bounds.epsilon_at(guess(in_scores, out_scores, each, seed), delta, level)
    elif method == "independent":
        errors = independent_bounds.errors_on_half(in_scores, out_scores, seed)
        value = independent_bounds.epsilon_at(errors, delta, level)
    else:
        of_mu: Literal["one-run", "independent"] = "one-run" if method == "one-run-gaussian" else "independent"
        mu = mu_lower_bound(in_scores, out_scores, confidence, of_mu, expected_mu=expected_mu, seed=seed).value
        value = Gaussian(1 / mu).profile().epsilon(delta).lower if mu > 0 else 0.0
    return EmpiricalLowerBound(value, confidence, method)


def mu_lower_bound(
    in_scores: ArrayLike,
    out_scores: ArrayLike,
    confidence: float = 0.95,
    method: Literal["one-run", "independent"] = "one-run",
    *,
    expected_mu: float = 1.0,
    seed: int = 0,
) -> EmpiricalLowerBound:
    """Lower bound on every mu for which the algorithm is mu-Gaussian private; arguments as `epsilon_lower_bound`."""
    level = 1 - confidence
    if method == "one-run":
        canaries = len(require_scores(in_scores)) + len(require_scores(out_scores))
        each = guesses_for(canaries, expected_mu, lambda g: one_run_bounds.mu_at(g, level))
        value = one_run_bounds.mu_at(guess(in_scores, out_scores, each, seed), level)
    else:
        value = independent_bounds.mu_at(independent_bounds.errors_on_half(in_scores, out_scores, seed), level)
    return EmpiricalLowerBound(value, confidence, method)
