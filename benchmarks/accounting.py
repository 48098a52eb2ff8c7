"""Accounting beside its peers: time, answer, error against the truth, and on which side of it the answer lies.

    .venv/bin/python benchmarks/accounting.py [--quick] [--json benchmarks/results/accounting.json]

One thread. Every call runs in its own fork of a process that has imported all libraries, so that no cache outlives it
and it can be stopped; the calls of a table take turns. Seconds are the median (range, repetitions), "times ours" is
relative to our fastest call that errs no more. The extra `benchmark` installs the peers. `--quick` leaves out the slow.

The truth: contour integrals (Alghamdi et al., 2023) confirmed by extrapolated discretisations, good to 1e-8, and closed
forms. Errors and widths are relative, those of a curve the worst at the error rates in POWER. The side is what the
authors claim ("bound", "bracket" or nothing), or "wrong side" where the truth refutes it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module, metadata
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import threadpoolctl
from scipy.stats import norm

from reticent import accounting

MODULES = {
    "reticent": ("reticent.accounting",),
    "dp-accounting": ("dp_accounting", "dp_accounting.pld.privacy_loss_distribution", "dp_accounting.rdp"),
    "opacus": ("opacus.accountants", "opacus.accountants.utils"),
    "prv-accountant": ("prv_accountant.dpsgd",),
    "riskcal": ("riskcal.calibration.dpsgd",),
    "gdpnum": ("gdpnum.dpsgd",),
    "scipy": ("scipy.fft", "scipy.integrate", "scipy.optimize", "scipy.signal"),
}
Case = tuple[float, float, int]  # noise multiplier, sampling rate, steps
A, C, J = (1.0, 0.01, 10_000), (1.0, 0.001, 10_000), (0.5715066078978425, 0.0038010957846441, 792)
DELTA, GRIDS, SLACK = 1e-5, (1e-3, 1e-4), 2e-8
EPSILON, MU = methodcaller("epsilon", DELTA), methodcaller("mu", alpha_min=1e-10)
# type I error: power of the best test against A; the last from mu(1e-8) = 1.34850295
POWER = {
    1e-1: 0.5050741709, 1e-2: 0.1539453184, 1e-3: 0.03801347549, 1e-4: 0.008306540324, 1e-5: 0.001672608765,
    1e-6: 0.0003173834975, 1e-8: float(norm.sf(norm.isf(1e-8) - 1.34850295)),
}  # fmt: skip
ALPHAS = np.sort([*np.geomspace(1e-8, 1, 1002 - len(POWER))[1:-1], *POWER])
PROBES = np.searchsorted(ALPHAS, list(POWER))
REPEATS, BUDGET, LIMIT, MEMORY = 5, 30.0, 300.0, 2**34  # seconds before a call is not repeated, or aborted; bytes
COLUMNS = "call | seconds | answer | width | error | side | times ours"


class Call(NamedTuple):
    """A way to answer a question with one end or (other end, end to rely on); `claim`: "bound", "bracket" or "none"."""

    package: str
    name: str
    claim: str
    run: Callable[[], Any]
    slow: bool = False


def ours(read: Callable[[Any], Any], *parts: Case, **accuracy: float) -> Any:
    """What `read` reads off our profile of a composition."""
    own = tuple(accounting.SubsampledGaussian(*part) for part in parts)
    return read((own[0] if len(own) == 1 else accounting.Composition(own)).profile(**accuracy))


def our_noise(target: Any) -> Any:
    """Default tolerance."""
    return accounting.calibrate(lambda sigma: accounting.SubsampledGaussian(sigma, *A[1:]), target)


def opacus_epsilon(accountant: str, case: Case = A, **options: float) -> float:
    """Accountants "rdp", "gdp" (central limit) and "prv"."""
    own = import_module("opacus.accountants").create_accountant(accountant)
    own.history = [case]
    return own.get_epsilon(delta=DELTA, **options)


def opacus_noise(accountant: str, epsilon: float) -> float:
    """Default tolerance: 0.01 on epsilon."""
    find = import_module("opacus.accountants.utils").get_noise_multiplier
    return find(accountant=accountant, target_epsilon=epsilon, target_delta=DELTA, sample_rate=A[1], steps=A[2])


def pld(method: str, value: float, case: Case = A, grid: float = 1e-4, **options: bool) -> float:
    """dp-accounting's privacy loss distribution, by default "connect the dots" from above."""
    make = import_module("dp_accounting.pld.privacy_loss_distribution").from_gaussian_mechanism
    step = make(case[0], sampling_prob=case[1], value_discretization_interval=grid, **options)
    return getattr(step.self_compose(case[2]), method)(value)


def event(sigma: float) -> Any:
    """A as dp-accounting's event."""
    dp = import_module("dp_accounting")
    return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(A[1], dp.GaussianDpEvent(sigma)), A[2])


def rdp_epsilon() -> float:
    """dp-accounting's Rényi accountant."""
    return import_module("dp_accounting.rdp").RdpAccountant().compose(event(A[0])).get_epsilon(DELTA)


def pld_noise(epsilon: float) -> float:
    """dp-accounting's calibration with its PLD accountant, default grid 1e-4."""
    accountant = import_module("dp_accounting.pld").PLDAccountant
    return import_module("dp_accounting").calibrate_dp_mechanism(accountant, event, epsilon, DELTA, tol=1e-4)


def prv_epsilon(eps_error: float, delta_error: float) -> tuple[float, float]:
    """prv-accountant's bracket."""
    make = import_module("prv_accountant.dpsgd").DPSGDAccountant
    return make(*A, eps_error=eps_error, delta_error=delta_error).compute_epsilon(DELTA, A[2])[::2]


def prv_noise(epsilon: float) -> float:
    """Default tolerance: 0.1 on epsilon."""
    return import_module("prv_accountant.dpsgd").find_noise_multiplier(*A[1:], epsilon, DELTA)


def riskcal_power(grid: float, alphas: Any = ALPHAS, case: Case = A) -> Any:
    """At rising type I errors."""
    return 1 - import_module("riskcal.calibration.dpsgd").get_beta_for_dpsgd(*case, np.array(alphas), grid)


def riskcal_noise(target: str, *values: float, **options: float) -> float:
    """Default tolerance: 1e-3 on the advantage or on the type II error."""
    find = getattr(import_module("riskcal.calibration.dpsgd"), f"find_noise_multiplier_for_{target}")
    return find(*values, *A[1:], **options)


def gdpnum_mu(grid: float) -> float:
    """Its "pessimistic" mu, for errors of at least 1e-10."""
    return import_module("gdpnum.dpsgd").get_mu_and_regret_for_dpsgd(*A, grid_step=grid)[0]


def start(modules: tuple[str, ...]) -> int:
    """Number of modules that a fresh interpreter has loaded after importing these."""
    command = [sys.executable, "-W", "ignore", "-c", f"import {', '.join(modules)}, sys; print(len(sys.modules))"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def tasks() -> dict[str, tuple[list[float], list[Call]]]:
    """Importing, questions about A, and epsilon at delta 1e-5 with one thing varied."""
    pld_epsilon = partial(pld, "get_epsilon_for_delta", DELTA)
    error_rates = partial(riskcal_noise, "err_rates", 0.01, 1 - 0.05)

    def own(read: Callable[[Any], Any], *levels: float) -> list[Call]:
        return [Call("reticent", f"accuracy {a:g}", "bracket", partial(ours, read, A, accuracy=a)) for a in levels]

    def grow(cases: dict[str, list[Case]]) -> tuple[list[float], list[Call]]:
        return [np.nan], [Call("reticent", n, "bracket", partial(ours, EPSILON, *own)) for n, own in cases.items()]

    return {
        "fresh interpreter, start included (answer: modules loaded)":
            ([np.nan], [Call(p, "import", "", partial(start, modules)) for p, modules in MODULES.items()]),
        "epsilon at delta 1e-5": ([6.187712390], [
            *own(EPSILON, *(10.0**-k for k in range(1, 9))),
            Call("opacus", "RDP", "bound", partial(opacus_epsilon, "rdp")),
            Call("opacus", "GDP (central limit)", "none", partial(opacus_epsilon, "gdp")),
            *(Call("opacus", f"PRV, eps_error {e:g}", "bound", partial(opacus_epsilon, "prv", eps_error=e), e < 0.01)
              for e in (0.01, 0.001)),
            Call("dp-accounting", "RDP", "bound", rdp_epsilon),
            *(Call("dp-accounting", f"connect the dots, grid {h:g}", "bound", partial(pld_epsilon, grid=h), h < 1e-4)
              for h in (1e-2, *GRIDS, 1e-5)),
            Call("dp-accounting", "buckets, grid 1e-4", "bound", partial(pld_epsilon, use_connect_dots=False)),
            *(Call("prv-accountant", f"eps_error {e:g}", "bracket", partial(prv_epsilon, e, d), e < 0.01)
              for e, d in ((0.1, 1e-8), (0.01, 1e-8), (0.001, 1e-10))),
        ]),
        "trade-off curve, 1000 points (answer: TPR at FPR 1e-8)": (list(POWER.values()), [
            *own(methodcaller("tradeoff", ALPHAS), 1e-2, 1e-3, 1e-5, 1e-7),
            *(Call("riskcal", f"grid {h:g}", "none", partial(riskcal_power, h)) for h in GRIDS),
        ]),
        "mu for errors of at least 1e-10": ([1.35875612], [
            *own(MU, 1e-2, 1e-3, 1e-5, 1e-7),
            *(Call("gdpnum", f"grid {h:g}", "bound", partial(gdpnum_mu, h)) for h in GRIDS),
        ]),
        "mu down to delta = eta = 1e-5": ([1.344065764], own(partial(accounting.gdp_statement, eta=DELTA), 1e-3, 1e-5)),
        **{f"noise multiplier for epsilon {e} at delta 1e-5": ([sigma], [
            Call("reticent", "default", "bound", partial(our_noise, accounting.EpsilonTarget(e, DELTA))),
            Call("opacus", "RDP", "bound", partial(opacus_noise, "rdp", e)),
            Call("opacus", "PRV", "bound", partial(opacus_noise, "prv", e), e == 8),
            Call("dp-accounting", "PLD, tolerance 1e-4", "bound", partial(pld_noise, e), e == 8),
            Call("prv-accountant", "default", "bound", partial(prv_noise, e), e == 8),
        ]) for e, sigma in ((1, 3.8128168307), (3, 1.5649655355), (8, 0.8825284903))},
        "noise multiplier for advantage 0.2": ([2.0879983610], [
            Call("reticent", "default", "bound", partial(our_noise, accounting.AdvantageTarget(0.2))),
            Call("riskcal", "default", "none", partial(riskcal_noise, "advantage", 0.2), True),
        ]),
        "noise multiplier for TPR 0.05 at FPR 0.01": ([1.624017477], [
            Call("reticent", "default", "bound", partial(our_noise, accounting.ErrorRatesTarget(fpr=0.01, tpr=0.05))),
            Call("riskcal", "default", "none", error_rates, True),
            Call("riskcal", "told: from 1 to 10", "none", partial(error_rates, noise_min=1.0, noise_max=10.0), True),
        ]),
        "steps": grow({f"T = {t:,}": [(*A[:2], t)] for t in (100, 1_000, 10_000, 100_000, 1_000_000)}),
        "distinct mechanisms": grow(
            {f"{n}": [(1 + 0.01 * i, A[1], A[2] // n) for i in range(n)] for n in (1, 2, 4, 8, 16, 32, 64)}),
    }  # fmt: skip


def wrong_values() -> dict[str, tuple[list[float], list[Call]]]:
    """Questions that a peer answers wrongly, and our answers at default accuracy; the truth ends the title."""
    found = {}

    def add(title: str, case: Case, truth: float, read: Callable[[Any], Any], *peer: Any) -> None:
        name = {A: "A", C: "C", J: "J"}.get(case, "sigma {:g}, q {:g}, T {}".format(*case))
        found[f"{name}: {title}; {truth:.9g}"] = (
            [truth],
            [Call("reticent", "default", "bracket", partial(ours, read, case)), Call(*peer)],
        )

    for a, case, truth in [*((a, A, truth) for a, truth in POWER.items() if a > 1e-7), (1e-5, J, 2.95363863e-4)]:
        peer = "riskcal", "grid 1e-4", "none", partial(riskcal_power, 1e-4, [a], case)
        add(f"TPR at FPR {a:g}", case, truth, methodcaller("tradeoff", [a]), *peer)
    add("mu, errors >= 1e-10", A, 1.35875612, MU, "gdpnum", "grid 1e-4", "bound", partial(gdpnum_mu, 1e-4))
    for case, truth in ((A, 6.187712390), (J, 3.94510272), ((0.5, 0.01, 10_000), 43.36648986)):
        peer = "opacus", "GDP (central limit)", "none", partial(opacus_epsilon, "gdp", case)
        add("epsilon at delta 1e-5", case, truth, EPSILON, *peer)
    for case, delta, grid, truth in ((A, 1e-12, 1e-4, 10.34668984), (C, 1e-13, 1e-3, 1.389867563)):
        peer = "dp-accounting", f"grid {grid:g}", "bound", partial(pld, "get_epsilon_for_delta", delta, case, grid)
        add(f"epsilon at delta {delta:g}", case, truth, methodcaller("epsilon", delta), *peer)
    for case in ((0.5, 1.0, 100), (0.1, 0.01, 10_000)):
        peer = "dp-accounting", "grid 1e-4", "bound", partial(pld, "get_delta_for_epsilon", 0.0, case)
        add("advantage, at most", case, 1.0, methodcaller("advantage"), *peer, case[1] < 1)
    return found


def answer_into(sender: Any, run: Callable[[], Any]) -> None:
    """Run in a fork: send the seconds and the ends of the answer, or the error."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        began = time.perf_counter()
        value = run()
        seconds = time.perf_counter() - began
        value = getattr(value, "value", getattr(value, "mu", value))  # of our calibration or statement of mu
        if isinstance(value, list):  # of our trade-offs
            value = 1 - np.array([v.upper for v in value]), 1 - np.array([v.lower for v in value])
        value = (value.lower, value.upper) if hasattr(value, "lower") else value
        ends = [np.atleast_1d(end).astype(float) for end in (value if isinstance(value, tuple) else (value,))]
        sender.send({"seconds": seconds, "ends": [(e[PROBES] if len(e) == len(ALPHAS) else e).tolist() for e in ends]})
    except Exception as error:
        sender.send({"failed": f"{type(error).__name__}: {error}".split("\n")[0][:100]})


def take_turns(calls: list[Call]) -> list[dict[str, Any]]:
    """Measure every call REPEATS times, in turns, until it fails or has used up its BUDGET."""
    context = multiprocessing.get_context("fork")
    rows: list[dict[str, Any]] = [{"package": c.package, "call": f"{c.package} {c.name}", "times": []} for c in calls]
    for row, call in [pair for _ in range(REPEATS) for pair in zip(rows, calls, strict=True)]:
        if "failed" in row or sum(row["times"]) > BUDGET:
            continue
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=answer_into, args=(sender, call.run))
        process.start()
        sender.close()
        try:
            row |= receiver.recv() if receiver.poll(LIMIT) else {"failed": f"aborted after {LIMIT:g} s"}
        except EOFError:
            row["failed"] = "died"
        row["times"] += [row.pop("seconds")] if "seconds" in row else []
        process.kill()
        process.join()
    return rows


def judge(row: dict[str, Any], claim: str, truth: list[float]) -> None:
    """Add the worst relative error of the end to rely on, the width of a bracket, and the side."""
    off = (ends := np.array(row.get("ends", [truth]))) / truth - 1
    refuted = bool((off[-1] < -SLACK).any() or (off[:-1] > SLACK).any())
    row["error"] = float(off[-1][np.abs(off[-1]).argmax()]) if "ends" in row else float("nan")
    row["width"] = float(np.abs(np.diff(ends, axis=0) / ends[-1]).max(initial=0))
    weak = "not a bound, too low" if refuted else "not a bound"
    row["side"] = weak if claim == "none" else "wrong side" if refuted else claim


def shown(row: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """What COLUMNS name; `rows` are those of the table."""
    if "failed" in row:
        return row["call"], row["failed"], "", "", "", "", ""
    times, own = row["times"], [r for r in rows if r["package"] == "reticent" and "failed" not in r]
    as_good = [np.median(r["times"]) for r in own if not abs(r["error"]) > abs(row["error"])]
    ratio = f"{np.median(times) / min(as_good):.3g}" if as_good else "ours errs more" if own else ""
    return (
        row["call"],
        f"{np.median(times):.3g} ({min(times):.3g} to {max(times):.3g}, {len(times)})",
        " to ".join(f"{end[-1]:.9g}" for end in row["ends"]),
        f"{row['width']:.0e}" if row["width"] else "",
        f"{row['error']:+.1e}".replace("+nan", ""),
        row["side"],
        "" if row in own else ratio,
    )


def table(title: str, heads: str, rows: list[tuple[str, ...]]) -> None:
    """Print Markdown."""
    print(f"## {title}\n\n| {heads} |\n|{'---|' * (heads.count('|') + 1)}")
    print(*(f"| {' | '.join(row)} |" for row in rows), "", sep="\n", flush=True)


def load(package: str, modules: tuple[str, ...]) -> str:
    """Import them; the version of the package, or why it is absent."""
    try:
        _ = [import_module(module) for module in modules]
        return metadata.version(package)
    except ImportError as error:
        return f"absent ({error})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the slow calls")
    parser.add_argument("--json", type=Path, help="write the raw results to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    threadpoolctl.threadpool_limits(1)
    found = {package: load(package, modules) for package, modules in MODULES.items()}
    results: dict[str, Any] = {"machine": {"python": sys.version, "load": os.getloadavg(), **found}}
    print(*(f"- {name}: {value}" for name, value in results["machine"].items()), "", sep="\n", flush=True)

    def answers(title: str, truth: list[float], calls: list[Call]) -> list[tuple[str, ...]]:
        chosen = [c for c in calls if "absent" not in found[c.package] and not (options.quick and c.slow)]
        rows = results[title] = take_turns(chosen)
        for call, row in zip(chosen, rows, strict=True):
            judge(row, call.claim, truth)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1).replace("NaN", "null") + "\n")
        return [shown(row, rows) for row in rows]

    for title, question in tasks().items():
        table(f"{title}; truth {question[0][-1]:.10g}".replace("; truth nan", ""), COLUMNS, answers(title, *question))
    wrong = [(title, *line) for title, question in wrong_values().items() for line in answers(title, *question)]
    table("wrong values", f"question | {COLUMNS}", wrong)


if __name__ == "__main__":
    main()
