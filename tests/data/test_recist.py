"""RECIST 1.1, the marker rule and their composite: the rules' edge cases, and the table they are read from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.data import MarkerRule, assess, by_subject, composite_response, read_visits, recist_response
from reticent.errors import InputError

HEADER = "subject,visit,lesion,organ,node,diameter,new_lesion,non_target,ca19_9,cholestasis,clinical"


@pytest.mark.parametrize(
    ("baseline", "nadir", "current", "category"),
    [
        (100, 100, 70, "PR"), (100, 100, 71, "SD"), (100, 100, 0, "CR"), (100, 100, 119.9, "SD"), (100, 100, 120, "PD"),
        (100, 20, 24, "PR"), (100, 20, 24.9, "PR"), (100, 20, 25, "PD"), (22, 20, 24, "SD"), (22, 20, 25, "PD"),
        (100, 90, 107, "SD"), (100, 90, 108, "PD"), (100, 0, 1, "PD"), (70, 70, 49, "PR"), (30, 30, 21, "PR"),
        (17, 17, 20.4, "SD"), (25, 25, 30, "PD"),
    ],
)  # fmt: skip
def test_hand_cases(baseline, nadir, current, category):
    assert recist_response(baseline, nadir, current) == category


@given(st.floats(1, 300), st.floats(0, 1), st.floats(0, 400))
def test_a_new_lesion_or_clear_progression_elsewhere_is_progress_whatever_the_sums(baseline, share, current):
    assert recist_response(baseline, share * baseline, current, new_lesion=True) == "PD"
    assert recist_response(baseline, share * baseline, current, non_target="PD") == "PD"


@given(st.floats(10, 300), st.floats(0.01, 1), st.floats(0.1, 400), st.floats(0.1, 20))
def test_a_larger_sum_is_never_a_better_category(baseline, share, current, more):
    order = ["CR", "PR", "SD", "PD"]
    smaller, larger = (recist_response(baseline, share * baseline, sum_) for sum_ in (current, current + more))
    assert order.index(smaller) <= order.index(larger)


@pytest.mark.parametrize(
    ("non_target", "category"), [(None, "CR"), ("CR", "CR"), ("non-CR/non-PD", "PR"), ("NE", "PR")]
)
def test_a_complete_response_needs_one_of_non_target_disease_too(non_target, category):
    assert recist_response(40, 40, 0, non_target=non_target) == category


def test_sums_that_cannot_be_are_refused():
    for wrong in ((0, 0, 5), (20, 30, 20), (20, 20, -1), (20, 20, float("nan"))):
        with pytest.raises(InputError):
            recist_response(*wrong)


def test_the_marker_counts_above_the_reference_without_cholestasis_only():
    rule = MarkerRule()
    assert [rule.change(100, now) for now in (80, 81, 119, 120)] == ["response", "neither", "neither", "progress"]
    assert rule.change(37, 10) is None
    assert rule.change(None, 10) is None
    assert rule.change(100, None) is None
    assert rule.change(100, 10, cholestasis=True) is None
    assert MarkerRule(fall=0.5).change(100, 51) == "neither"
    with pytest.raises(InputError):
        MarkerRule(fall=0)
    with pytest.raises(InputError):
        rule.change(-1, 10)


def test_the_composite_decides_stable_disease_by_marker_then_clinician():
    assert composite_response("PR", "progress") == "responder"
    assert composite_response("PD", "response", "response") == "non-responder"
    assert composite_response("SD", "response", "progress") == "responder"
    assert composite_response("SD", "progress") == "non-responder"
    assert composite_response("SD", "neither", "progress") == "non-responder"
    assert composite_response("NE", None, "response") == "responder"
    assert composite_response("SD", "neither") == "undetermined"


def write(tmp_path, *rows):
    path = tmp_path / "lesions.csv"
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    return path


def categories(path):
    return [[a.recist for a in assess(visits)] for visits in by_subject(read_visits(path))]


def test_visits_are_ordered_by_time_and_judged_from_the_smallest_sum(tmp_path):
    path = write(
        tmp_path,
        "a,2024-03-01,L1,liver,,40,,,,,", "a,2023-11-01,L1,liver,,60,,,,,", "a,2024-01-01,L1,liver,,30,,,,,",
        "a,2024-03-01,N1,,1,9,,,,,", "a,2023-11-01,N1,,1,20,,,,,", "a,2024-01-01,N1,,1,8,,,,,",
        "b,0,L1,,,20,,,100,,", "b,1,L1,,,20,,,70,,", "b,2,L1,,,,,,,,", "b,3,L1,,,20,1,,,,",
    )  # fmt: skip
    assert categories(path) == [["PR", "PD"], ["SD", "NE", "PD"]]
    b = assess(list(by_subject(read_visits(path)))[1])
    assert [(a.marker, a.composite) for a in b] == [
        ("response", "responder"), (None, "undetermined"), (None, "non-responder"),
    ]  # fmt: skip


def test_small_nodes_are_a_complete_response_although_they_have_a_diameter(tmp_path):
    path = write(tmp_path, "a,0,N1,,1,20,,,,,", "a,1,N1,,1,9.9,,,,,", "a,2,N1,,1,10,,,,,")
    assert categories(path) == [["CR", "PR"]]


def test_a_lesion_that_is_back_after_a_complete_response_is_progress(tmp_path):
    rows = ["a,0,L1,,,20,,,,,", "a,0,N1,,1,20,,,,,", "a,1,L1,,,0,,,,,", "a,1,N1,,1,9,,,,,"]
    assert categories(write(tmp_path, *rows, "a,2,L1,,,3,,,,,", "a,2,N1,,1,9,,,,,")) == [["CR", "PD"]]


def test_measured_lesions_alone_can_be_progress(tmp_path):
    rows = ["a,0,L1,,,20,,,,,", "a,0,L2,,,10,,,,,", "a,1,L1,,,40,,,,,", "a,1,L2,,,,,,,,"]
    assert categories(write(tmp_path, *rows)) == [["PD"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,0,L1,,,20,,,,,"], "one visit only"),
        (["a,0,L1,,,9,,,,,", "a,1,L1,,,9,,,,,"], "row 2: L1 is 9 mm at the baseline, a target lesion has 10 mm"),
        (["a,0,L1,,1,14,,,,,", "a,1,L1,,1,9,,,,,"], "a target node has 15 mm"),
        ([f"a,0,L{k},,,20,,,,," for k in range(6)] + ["a,1,L0,,,9,,,,,"], "6 target lesions"),
        ([f"a,0,L{k},liver,,20,,,,," for k in range(3)] + ["a,1,L0,,,9,,,,,"], "3 target lesions in liver"),
        (["a,0,L1,,,20,,,,,", "a,1,L2,,,9,,,,,"], "row 3: L2 is no target lesion of the baseline"),
        (["a,0,L1,,,20,,,,,", "a,0,L1,,,20,,,,,"], "row 3: L1 is there twice"),
        (["a,0,L1,,,big,,,,,"], "row 2: diameter is 'big'"),
        (["a,0,L1,,,-3,,,,,"], "row 2: diameter is '-3'"),
        (["a,0,L1,,,20,,PR,,,"], "row 2: non_target is 'PR'; use CR"),
        (["a,soon,L1,,,20,,,,,"], "visit 'soon' is neither a number nor a date"),
        (["a,0,L1,,,20,,,50,,", "a,0,L2,,,20,,,60,,"], "row 3: ca19_9 is 60.0 here and 50.0"),
        ([",0,L1,,,20,,,,,"], "row 2: no subject"),
        (["a,0,,,,20,,,,,"], "row 2: a diameter without a lesion"),
    ],
)  # fmt: skip
def test_wrong_tables_name_the_row(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        categories(write(tmp_path, *rows))
