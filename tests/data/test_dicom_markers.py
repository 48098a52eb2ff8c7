"""Markers of DICOM cohorts: columns of the table of labels, joined to the series as labels are."""

import numpy as np
import pytest
from dicom_tree import voxels, write_series

from reticent.data import inspect_cohort, marker_values, open_cohort, parse_markers, without_markers
from reticent.errors import InputError

MARKERS = {"crp": "log,0..500", "sex": "f|m"}


@pytest.fixture
def clinic(tmp_path):
    """Five patients, the last with two studies; a table of labels and markers in another order, without P002."""
    for patient in range(5):
        write_series(tmp_path / "archive" / str(patient), patient, 1, volume=voxels(patient, (4, 6, 6)))
    write_series(tmp_path / "archive" / "again", 4, 1, study=2, volume=voxels(9, (4, 6, 6)))
    write(tmp_path, "P004,1,inf,f", "P001,1,9,m", "P003,0,,m", "P009,0,7,f", "P000,0,99,")
    return tmp_path


def write(folder, *rows, header="PatientID,ill,crp,sex"):
    (folder / "labels.csv").write_text("\n".join((header, *rows)) + "\n")


def opened(clinic, markers=MARKERS, **options):
    return open_cohort(
        f"dicom:{clinic / 'archive'}?labels={clinic / 'labels.csv'}", markers=markers, **({"labels": ["ill"]} | options)
    )


def test_each_series_has_the_markers_of_its_row(clinic):
    cohort = opened(clinic)
    assert dict(cohort.channels) == {"image": 1, "markers": 3, "missing": 2}
    by_subject = {}
    for entry, values, missing in zip(cohort.entries, *marker_values(cohort, range(5)), strict=True):
        by_subject.setdefault(entry.subject, []).append((np.expm1(values[0]), *values[1:], *missing))
    assert by_subject.keys() == {"P000", "P001", "P003", "P004"}
    expected = {"P000": (99, np.nan, np.nan, 0, 1), "P001": (9, 0, 1, 0, 0), "P003": (np.nan, 0, 1, 1, 0),
                "P004": (500, 1, 0, 0, 0)}  # fmt: skip
    for subject, found in by_subject.items():
        assert len(found) == (2 if subject == "P004" else 1)
        for row in found:
            assert row == pytest.approx(expected[subject], rel=1e-5, nan_ok=True)
    assert cohort.load(0).inputs["image"].shape == (1, 6, 6, 4)
    assert "crp" not in cohort.entries[0].attributes
    assert without_markers(cohort).load(0).inputs.keys() == {"image"}
    summary = inspect_cohort(cohort, ["train"] * 5, markers=parse_markers(MARKERS))
    assert not summary.unreadable
    assert (summary.markers["crp"].missing, summary.markers["crp"].spread) == (1, (9.0, 299.5, 500.0))


def test_tables_without_labels_give_markers_to_predict_with(clinic):
    write(clinic, "P004,3", "P001,9", header="mrn,crp")
    markers = {"crp": "log"}
    cohort = opened(clinic, markers, columns={"PatientID": "mrn", "mask": "gone"}, labels=None, predicting=True)
    assert [entry.subject for entry in cohort.entries] == ["P001", "P004", "P004"]
    assert [entry.label for entry in cohort.entries] == [None] * 3
    np.testing.assert_allclose(np.expm1(marker_values(cohort, range(3))[0][:, 0]), [9, 3, 3], rtol=1e-6)
    assert len([each for each in cohort.left_out if each.reason == "no row in labels.csv"]) == 3


@pytest.mark.parametrize(
    ("markers", "row", "message"),
    [
        ({"crq": "log"}, "P001,1,9,m", "labels.csv: no column 'crq' .--marker.; the columns are PatientID, ill, crp"),
        ({"crp": "log"}, "P001,1,high,m", "labels.csv, row 3: 'high' in column crp is not a number"),
        ({"crp": "log"}, "P001,1,inf,m", "labels.csv, row 3: 'inf' in column crp is outside a detection limit"),
        ({"sex": "f|m"}, "P001,1,9,x", r"labels.csv, row 3: 'x' in column sex is none of f\|m"),
    ],
)
def test_errors_name_table_row_and_column(clinic, markers, row, message):
    write(clinic, "P000,0,5,f", row)
    with pytest.raises(InputError, match=message):
        opened(clinic, markers)


def test_markers_without_a_table_are_asked_for(clinic):
    with pytest.raises(
        InputError, match=r"no markers; join a table with a column .*: dicom:.*archive\?labels=FILE.csv"
    ):
        open_cohort(f"dicom:{clinic / 'archive'}", markers=MARKERS, predicting=True)
