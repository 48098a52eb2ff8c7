"""Which metric a table of runs is about."""

import pytest

from reticent.records import headline


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["split", "brier", "auroc"], "auroc"),
        (["hd95", "dice"], "dice"),
        (["map", "ap50", "count_error"], "ap50"),
        (["ASAT bias", "ASAT r2", "VAT r2"], "ASAT r2"),
        ([], "auroc"),
    ],
)
def test_of_each_task_it_is_the_usual_one(names, expected):
    assert headline(names) == expected
