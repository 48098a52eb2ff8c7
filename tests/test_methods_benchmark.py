"""What `benchmarks/methods.py` makes of runs: the choice on validation, rows kept and merged, and tables."""

import pytest

from methods_search import Guarantee, Setting, run_trials, search_and_repeat
from methods_table import markdown, merged, tables
from reticent.records import Measured, SplitMetrics

METRICS = ("auroc", "balanced_accuracy", "brier", "calibration_error")


def row(variant, auroc, *, split="test", rate=0.01, repeat=0):
    configuration = f"{variant}, learning_rate = {rate}"
    found = {"configuration": configuration, "variant": variant, "training.learning_rate": rate, "repeat": repeat}
    return {**found, "split": split, **dict.fromkeys(METRICS, auroc)}


def test_the_value_that_is_best_on_validation_is_repeated_whatever_the_test_split_says():
    on_val, on_test = {0.1: 0.8, 0.2: 0.9, 0.3: 0.7}, {0.1: 0.5, 0.2: 0.4, 0.3: 0.99}
    asked = []

    def run(stage, values, repeats):
        asked.append((stage, dict(values), repeats))
        return [
            row("a", scores[rate], split=split, rate=rate)
            for rate in values["a"]
            for split, scores in (("val", on_val), ("test", on_test))
        ]

    rows = search_and_repeat({"a": "training.learning_rate"}, {"a": [0.1, 0.2, 0.3]}, run)
    assert asked == [("search", {"a": [0.1, 0.2, 0.3]}, 1), ("final", {"a": [0.2]}, 3)]
    assert [len(rows[stage]) for stage in ("search", "final")] == [6, 2]


def test_a_trial_that_was_done_is_not_done_again(tmp_path):
    done = []

    def train(trial):
        done.append(trial.rate)
        splits = [SplitMetrics(split="val", subjects=3, records=4, metrics={"auroc": Measured(value=trial.rate)})]
        return Guarantee("run", 7.9, 1e-5, None), splits

    setting = Setting("set", {}, {}, tmp_path, 1)
    first = run_trials(setting, {"peer": train}, "search", {"peer": [0.1, 0.2]}, 1)
    assert run_trials(setting, {"peer": train}, "search", {"peer": [0.1, 0.2, 0.3]}, 1)[:2] == first
    assert done == [0.1, 0.2, 0.3]
    assert [(r["variant"], r["training.learning_rate"], r["auroc"], r["epsilon"]) for r in first] == [
        ("peer", 0.1, 0.1, 7.9), ("peer", 0.2, 0.2, 7.9),
    ]  # fmt: skip


def test_merging_replaces_the_rows_of_what_was_measured_and_keeps_all_others():
    old = {"search": [row("a", 0.1)], "final": [row("a", 0.1), row("c", 0.3), row("c", 0.4, repeat=1)]}
    new = {"search": [row("b", 0.2)], "final": [row("c", 0.5), row("b", 0.6)]}
    both = merged(old, new, ["a", "b", "c"])
    assert both == {"search": [row("a", 0.1), row("b", 0.2)], "final": [row("a", 0.1), row("b", 0.6), row("c", 0.5)]}


def test_differences_are_from_the_reference_or_left_out():
    final = [row("a", auroc, repeat=k) for k, auroc in enumerate((0.90, 0.92, 0.94))]
    final += [row("b", auroc, repeat=k) for k, auroc in enumerate((0.91, 0.97, 0.94))]
    found = tables(final, "a")["auroc"]
    # Welch by hand: difference 0.02, variances of the means 0.0004 / 3 and 0.0009 / 3, 3.4845 degrees of freedom
    assert found[1]["difference"] == pytest.approx(0.02)
    assert found[1]["difference high"] - 0.02 == pytest.approx(2.9462 * (0.0013 / 3) ** 0.5, rel=1e-3)
    assert "difference" not in tables(final[3:], "a")["auroc"][0]
    lines = markdown({"final": final, "tables": tables(final, "a")}).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| a | learning rate = 0.01 | 0.920 (0.870 to 0.970) |  | 0.920 | 0.920 |")
    assert lines[3].startswith("| b | learning rate = 0.01 | 0.940 (0.865 to 1.015) | +0.020 (-0.041 to +0.081) |")
