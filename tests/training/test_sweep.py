"""The summary of a sweep against scipy's own tests, and its tables."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reticent.errors import InputError
from reticent.report import latex_table, markdown_table
from reticent.training import summary


def results():
    rng = np.random.default_rng(0)
    rows = [
        {"configuration": name, "split": split, "auroc": 0.9 + shift + rng.normal(0, 0.01)}
        for name, shift in (("first", 0.0), ("50 % & more_of_it", 0.02))
        for _ in range(5)
        for split in ("val", "test")
    ]
    return pd.DataFrame(rows)


def test_means_and_differences_have_the_intervals_of_student_and_welch():
    frame = results()
    own = {name: part["auroc"].to_numpy() for name, part in frame[frame.split == "val"].groupby("configuration")}
    table = summary(frame, "val", "auroc")
    assert table.configuration.tolist() == ["first", "50 % & more_of_it"]
    for row in table.to_dict("records"):
        values = own[row["configuration"]]
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((values.mean(), low, high))
    a, b = own["50 % & more_of_it"], own["first"]
    spread = a.var(ddof=1) / 5 + b.var(ddof=1) / 5
    freedom = spread**2 / ((a.var(ddof=1) / 5) ** 2 / 4 + (b.var(ddof=1) / 5) ** 2 / 4)
    half = stats.t.ppf(0.975, freedom) * spread**0.5
    last = table.iloc[1]
    assert (last["difference"], last["difference low"], last["difference high"]) == pytest.approx(
        (a.mean() - b.mean(), a.mean() - b.mean() - half, a.mean() - b.mean() + half)
    )
    assert np.isnan(table.iloc[0]["difference"])


def test_one_run_has_no_interval_and_an_unknown_metric_is_named():
    one = results().drop_duplicates(["configuration", "split"])
    table = summary(one, "test", "auroc")
    assert table["low"].isna().all()
    assert not table["mean"].isna().any()
    with pytest.raises(InputError, match="no 'dice' on the split 'test'"):
        summary(one, "test", "dice")


def test_tables_hold_the_same_cells():
    table = summary(results(), "val", "auroc")
    first, second = (f"{mean:.4f}" for mean in table["mean"])
    written = markdown_table(table, "auroc")
    assert [line.count("|") for line in written.splitlines()] == [5] * 4
    assert f"| first | 5 | {first} (" in written
    latex = latex_table(table, "auroc")
    assert rf"50 \% \& more\_of\_it & 5 & {second} (" in latex
    assert latex.count(r"\\") == 3
