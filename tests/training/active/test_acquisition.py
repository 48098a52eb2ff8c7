"""Scores from class probabilities: closed forms, ranges, and what cannot be scored record by record."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reticent.errors import InputError
from reticent.training.active import acquisition, k_center

SCORED = ("entropy", "least-confidence", "margin", "bald")


def test_scores_have_their_closed_forms():
    p = torch.tensor([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    entropy = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)
    found = {name: acquisition(name, 3).score(p) for name in SCORED[:3]}
    torch.testing.assert_close(
        found["entropy"], torch.tensor([entropy, 0.0, 0.8], dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    expected = torch.tensor([0.7 - 1 / 3, 2 / 3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found["least-confidence"], expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        found["margin"], torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_bald_is_one_where_passes_are_sure_of_different_classes_and_nothing_where_they_agree():
    sure = torch.eye(4)[torch.tensor([[0, 0, 2], [1, 0, 2], [2, 0, 2], [3, 0, 2]])]
    unsure = torch.full((4, 3, 4), 0.25)
    score = acquisition("bald", 4).score
    torch.testing.assert_close(score(sure), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(score(unsure), torch.zeros(3, dtype=torch.float64))


def test_several_labels_are_scored_by_their_mean_binary_entropy_in_bits():
    p = torch.tensor([[0.5, 0.0], [0.1, 0.9]], dtype=torch.float64)
    binary = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    torch.testing.assert_close(
        acquisition("entropy", 2, multi_label=True).score(p), torch.tensor([0.5, binary], dtype=torch.float64)
    )
    torch.testing.assert_close(
        acquisition("least-confidence", 2, multi_label=True).score(p), torch.tensor([0.0, 0.4], dtype=torch.float64)
    )
    passes = torch.tensor([[[0.0, 0.5]], [[1.0, 0.5]]])
    torch.testing.assert_close(acquisition("bald", 2, multi_label=True).score(passes), torch.tensor([0.5]).double())


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1), st.floats(0.01, 30), st.booleans())
def test_no_score_leaves_its_range(classes, seed, sharpness, multi_label):
    logits = torch.randn(5, 7, classes, generator=torch.Generator().manual_seed(seed)) * sharpness
    p = logits.sigmoid() if multi_label else logits.softmax(-1)
    for name in SCORED:
        if multi_label and name == "margin":
            continue
        made = acquisition(name, classes, multi_label=multi_label)
        scores = made.score(p if made.passes > 1 else p[0])
        assert scores.shape == (7,)
        assert scores.min() >= -1e-6
        assert scores.max() <= made.value_range + 1e-6


def test_k_center_takes_the_farthest_record_each_time():
    line = torch.tensor([[0.0], [1.0], [2.0], [7.0], [10.0]])
    assert k_center(line, torch.tensor([[0.0]]), 3) == [4, 3, 2]
    assert k_center(line, torch.zeros(0, 1), 2) == [0, 4]
    with pytest.raises(InputError, match="6 records to choose out of 5"):
        k_center(line, line[:1], 6)


@pytest.mark.parametrize(
    ("name", "classes", "multi_label", "said"),
    [
        ("core-set", 3, False, "no score of single records"),
        ("random", 3, False, "no score of single records"),
        ("badge", 3, False, "choose one of random"),
        ("margin", 3, True, "choose entropy"),
        ("entropy", 1, False, "at least two"),
    ],
)
def test_what_has_no_score_is_refused(name, classes, multi_label, said):
    with pytest.raises(InputError, match=said):
        acquisition(name, classes, multi_label=multi_label)
