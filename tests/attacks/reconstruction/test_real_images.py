"""Attacks on gradients of real patients, without privacy: X-rays recognisable by search, exact by a malicious layer."""

from dataclasses import replace
from pathlib import Path

import pytest

import reconstruction as benchmark
from reconstruction_data import chests, network
from reticent.attacks.reconstruction import SEARCHES, alone_in_a_bin

DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def data():
    if not (DATA / "kermany_cxr" / "manifest.csv").exists():
        pytest.skip("the data bundle is absent (kermany_cxr)")
    return DATA


def test_an_x_ray_is_recognisable_after_half_of_the_search(data):
    material = chests(data, 1)
    found = benchmark.rebuilt(network(), benchmark.TASK, material, replace(SEARCHES["cosine"], iterations=400))
    scores = benchmark.scored(material, found)
    assert scores["PSNR"]["gain"] > 3
    assert scores["SSIM"]["gain"] > 0.05


def test_a_malicious_layer_reads_x_rays_exactly_alone_and_as_often_as_is_expected_in_batches(data):
    """Over 128 images; six standard deviations of a binomial count, a false alarm below 1e-6."""
    material = chests(data, 128)
    assert benchmark.read_out(material, "imprint", 1, 0.0)["exact"] == 1
    expected = alone_in_a_bin(16, benchmark.NEURONS) / 16
    spread = 6 * (expected * (1 - expected) / 128) ** 0.5
    assert benchmark.read_out(material, "imprint", 16, 0.0)["exact"] == pytest.approx(expected, abs=spread)
    assert benchmark.read_out(material, "imprint", 16, 0.01)["near"] == 0


@pytest.mark.slow
def test_a_segmenters_gradients_show_more_of_20_patients_than_the_mean_image(data):
    for name, measure in benchmark.segmentation(data, Path()):
        if name == "no defence":
            scores = measure()
            assert scores["images"] == 20
            assert scores["PSNR"]["gain_interval"]["lower"] > 0
            assert scores["SSIM"]["gain_interval"]["lower"] > 0
