import sys
from subprocess import run

import numpy as np
import pytest

from reticent.data import open_cohort
from reticent.errors import InputError


def test_the_default_phantom_has_2000_patients_with_one_to_four_images():
    cohort = open_cohort("phantom:chest")
    counts = np.unique([entry.subject for entry in cohort.entries], return_counts=True)[1]
    assert len(counts) == 2000
    assert set(counts) == {1, 2, 3, 4}
    assert cohort.has_subjects
    assert cohort.shape(0) == (32, 32)
    assert cohort.load(0).inputs["image"].shape == (1, 32, 32)


def test_label_and_attributes_belong_to_the_patient():
    entries = open_cohort("phantom:chest?subjects=50").entries
    for subject in {entry.subject for entry in entries}:
        own = [(entry.label, tuple(entry.attributes.items())) for entry in entries if entry.subject == subject]
        assert len(set(own)) == 1


def test_a_patient_is_the_same_in_cohorts_of_every_size():
    small, large = open_cohort("phantom:chest?subjects=5"), open_cohort("phantom:chest?subjects=50")
    n = len(small.entries)
    assert list(small.entries) == list(large.entries[:n])
    assert [small.digest(i) for i in range(n)] == [large.digest(i) for i in range(n)]


def test_images_of_one_patient_are_closer_than_those_of_others():
    cohort = open_cohort("phantom:chest?subjects=100")
    centred = [np.fft.fft2(cohort.load(i).inputs["image"][0]) for i in range(len(cohort.entries))]
    spectra = [np.abs(spectrum) / np.abs(spectrum).sum() for spectrum in centred]  # blind to shift and intensity
    subjects = [entry.subject for entry in cohort.entries]
    same, other = [], []
    for i in range(len(subjects) - 1):
        (same if subjects[i] == subjects[i + 1] else other).append(np.abs(spectra[i] - spectra[i + 1]).sum())
    assert np.median(same) < 0.5 * np.median(other)


def test_the_population_matches_the_generator_it_was_taken_from():
    # The generator at 28 pixels measures a mean of 0.320; the patients' means spread by about 0.05.
    cohort = open_cohort("phantom:chest?subjects=200")
    means = [cohort.load(i).inputs["image"].mean() for i in range(len(cohort.entries))]
    assert np.mean(means) == pytest.approx(0.320, abs=0.025)


@pytest.mark.parametrize(
    "uri", ["phantom:knee", "phantom:chest?subjects=0", "phantom:chest?subjects=x", "phantom:chest?n=3"]
)
def test_an_unknown_phantom_is_refused(uri):
    with pytest.raises(InputError, match=r"use phantom:chest or phantom:chest\?subjects=N"):
        open_cohort(uri)


def test_opening_a_cohort_does_not_import_torch_or_monai():
    code = "import sys; from reticent.data import open_cohort; open_cohort('phantom:chest'); print(*sys.modules)"
    modules = set(run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not modules & {"torch", "monai", "pandas"}
