"""Markers of a manifest: declarations, cells, what is missing or beyond a limit, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reticent.data import Preprocessing, marker_values, open_cohort, parse_markers, training_scales
from reticent.errors import InputError

HEADER = "file,subject,label,crp,sex"
ROWS = ["0.png,a,0,10,f", "1.png,b,1,,m", "2.png,c,0,-inf,", "3.png,d,1,inf,f"]


def opened(make_manifest, markers, *rows, header=HEADER):
    return open_cohort(str(make_manifest(header, *rows)), markers=markers)


def test_values_missing_ones_and_limits_are_in_two_vectors_beside_the_image(make_manifest):
    cohort = opened(make_manifest, {"crp": "50,20,5..500", "sex": "f|m"}, *ROWS)
    assert dict(cohort.channels) == {"image": 1, "markers": 3, "missing": 2}
    values, missing = marker_values(cohort, range(4))
    assert np.array_equal(missing, [[0, 0], [1, 0], [0, 1], [0, 0]])
    assert np.array_equal(values[:, 0], [10, np.nan, 5, 500], equal_nan=True)
    scales = training_scales(parse_markers({"crp": "50,20,5..500", "sex": "f|m"}), values)
    records = [Preprocessing(marker_scales=scales).apply(cohort.load(i)) for i in range(4)]
    assert np.allclose([r.inputs["markers"] for r in records], [[-2, 1, 0], [0, 0, 1], [-2.25, 0, 0], [22.5, 1, 0]])
    assert records[0].inputs["image"].shape == (1, 9, 7)


def test_log_and_statistics_of_the_training_records(make_manifest):
    markers = {"crp": "log"}
    cohort = opened(make_manifest, markers, "0.png,a,0,0,f", "1.png,b,1,9,m", "2.png,c,0,99,m", "3.png,d,1,,m")
    values, _ = marker_values(cohort, [0, 1, 2, 3])
    (scale,) = training_scales(parse_markers(markers), values)
    given = np.log([1, 10, 100])
    assert scale == pytest.approx((given[1], np.subtract(*np.quantile(given, [0.75, 0.25]))), rel=1e-6)
    with pytest.raises(InputError, match="crp: no training record has a value"):
        training_scales(parse_markers(markers), values[3:])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(-1e6, 1e6))
def test_a_declared_scale_is_kept_whatever_the_values_are(centre, scale, value):
    markers = parse_markers({"x": f"{centre!r},{scale!r}"})
    assert training_scales(markers, np.array([[value]])) == ((centre, scale),)


def test_numeric_markers_are_no_subgroups_but_categories_are(make_manifest):
    cohort = opened(make_manifest, {"crp": "0,1,0..1", "sex": "f|m"}, *ROWS)
    assert [dict(entry.attributes) for entry in cohort.entries] == [{"sex": "f"}, {"sex": "m"}, {}, {"sex": "f"}]


@pytest.mark.parametrize(
    ("declared", "row", "message"),
    [
        ({"crq": "0,1"}, ROWS[0], "no column 'crq' .--marker.; the columns are file, subject"),
        ({"label": "0|1"}, ROWS[0], "--marker label: that column is what is predicted"),
        ({"crp": "0,1"}, "0.png,a,0,high,f", "row 2: 'high' in column crp is not a number; correct it, leave it empty"),
        ({"crp": "0,1"}, "0.png,a,0,-nan,f", "'-nan' in column crp is not a number; leave a missing value empty"),
        ({"crp": "0,1"}, "0.png,a,0,inf,f", r"row 2: 'inf' in column crp is outside a detection limit; declare it, as"),
        ({"crp": "0,1,..9"}, "0.png,a,0,-inf,f", r"declare it, as --marker crp=…,3\.\."),
        ({"crp": "0,1,log"}, "0.png,a,0,-2,f", r"row 2: '-2' in column crp has no log\(1 \+ x\)"),
        ({"sex": "f|m"}, "0.png,a,0,1,x", r"row 2: 'x' in column sex is none of f\|m; correct it"),
        ({"crp": "0"}, ROWS[0], "crp=0: write CENTRE,SCALE"),
        ({"crp": "0,-1"}, ROWS[0], "write CENTRE,SCALE"),
        ({"crp": "0,1,9..3"}, ROWS[0], "write CENTRE,SCALE"),
        ({"crp": "0,inf"}, ROWS[0], "write CENTRE,SCALE"),
        ({"sex": "f|f"}, ROWS[0], "name each category once"),
        ({"crp": "0,1,log,-5.."}, ROWS[0], r"log\(1 \+ x\) needs limits above -1"),
    ],
)  # fmt: skip
def test_wrong_declarations_and_cells_name_the_row_and_the_remedy(make_manifest, declared, row, message):
    with pytest.raises(InputError, match=message):
        opened(make_manifest, declared, row, "1.png,b,1,2,m")


def test_markers_are_columns_of_a_table_only(tmp_path):
    with pytest.raises(InputError, match=r"--marker goes with DICOM \(labels=FILE\), a manifest .*; leave it out"):
        open_cohort(str(tmp_path), markers={"crp": "0,1"})


def test_nan_text_is_missing_and_an_altered_cell_changes_the_stamp(make_manifest):
    cohort = opened(make_manifest, {"crp": "0,1"}, "0.png,a,0,NaN,f", "1.png,b,1,2,m")
    assert math.isnan(marker_values(cohort, [0])[0][0, 0])
    other = opened(make_manifest, {"crp": "0,1"}, "0.png,a,0,3,f", "1.png,b,1,2,m")
    assert cohort.stamp(0).split()[-1] != other.stamp(0).split()[-1]
