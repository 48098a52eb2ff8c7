"""Reconstruction attacks on finished runs: findings beside guarantees, pictures that stay inside."""

import json
import shutil
import stat

import numpy as np
import pytest
from PIL import Image

from reticent.accounting import Gaussian
from reticent.attacks import ATTACKS, LoadedRun
from reticent.attacks.reconstruction.on_runs.material import ReconstructionOptions, gather
from reticent.attacks.reconstruction.priors import DiffusionPrior
from reticent.errors import InputError
from reticent.records import RunFolder


def findings(run, name, **options):
    attack = ATTACKS[name]
    assert attack.unfit(run) is None
    return {finding.metric: finding for finding in attack.findings(run, attack.options(seed=3, **options))}


@pytest.fixture
def bare(make_run):
    """A small run without privacy, loaded."""
    with LoadedRun(make_run("bare", non_private=True)) as run:
        yield run


def test_identification_stays_within_the_guarantee_of_the_run(audited):
    (found,) = findings(audited, "identification").values()
    assert found.baseline == pytest.approx(0.1)
    assert found.guarantee.upper == pytest.approx(audited.mechanism.profile().reconstruction(0.1).upper)
    assert found.baseline < found.value < found.guarantee.upper
    assert found.p_value > 1e-3
    assert not found.exceeds
    assert found.asset == "image of a patient"


def test_a_run_with_less_noise_than_it_says_is_caught_by_identification(audited):
    audited.__dict__["state"] = audited.state.model_copy(update={"noise_multiplier": 0.3})
    (found,) = findings(audited, "identification").values()
    assert found.exceeds


def test_without_privacy_everybody_who_took_part_is_named_and_nothing_is_guaranteed(bare):
    (found,) = findings(bare, "identification", trials=500).values()
    joined = 1 - (1 - bare.study.privacy.sampling_rate) ** bare.study.privacy.steps
    assert found.interval.lower <= joined + 0.1 * (1 - joined) <= found.interval.upper
    assert found.guarantee is None


def test_the_visual_audit_shows_less_and_less_and_keeps_its_pictures_inside(audited):
    found = findings(audited, "visual", patients=6, gallery=10)
    likeness, named = found["SSIM"], found["re-identification rate"]
    levels = likeness.settings["levels of noise"]
    assert [level["noise multiplier"] for level in levels] == pytest.approx([0.01, 1 / 30, 0.1, 1 / 3, 1.0], abs=1e-5)
    errors = [level["MSE"] for level in levels]
    assert errors == sorted(errors)
    assert levels[0]["re-identified"] == 1
    assert likeness.value == pytest.approx(levels[-1]["SSIM"], abs=1e-5)
    assert likeness.baseline == pytest.approx(levels[-1]["SSIM, prior only"], abs=1e-5)
    steps = likeness.settings["steps with the patient"]
    assert steps == 2  # of four, with a chance of 0.4 each
    assert named.guarantee.upper == Gaussian(1.0, steps=steps).profile().reconstruction(1 / 10).upper
    assert named.baseline == 0.1
    assert not named.exceeds
    (name,) = likeness.figures
    picture = audited.folder.private / "audits" / "visual" / name
    width, height = Image.open(picture).size  # seven columns, and two rows for each of four patients
    assert width > 500
    assert height > width
    assert stat.S_IMODE(picture.stat().st_mode) == 0o600
    assert not list(audited.folder.release.glob("**/*.png"))


def test_a_diffusion_prior_is_trained_once_and_kept_with_the_audits(make_run, monkeypatch):
    with LoadedRun(make_run("prior")) as run:
        public = {"public": "phantom:chest?subjects=60", "references": 40}
        options = {"prior": "diffusion", "iterations": 2, "patients": 3, "gallery": 6, **public}
        first = findings(run, "visual", **options)["SSIM"]
        assert "phantom:chest" in first.settings["from"]
        assert "overlap" not in first.settings
        monkeypatch.setattr(DiffusionPrior, "fit", lambda *a, **k: pytest.fail("trained again"))
        assert findings(run, "visual", **options)["SSIM"].value == first.value
        (kept,) = run.work_folder("visual").glob("prior-*.safetensors")
        named = findings(run, "visual", prior="diffusion", prior_file=kept, patients=3, gallery=6)["SSIM"]
        assert "phantom:chest" in named.settings["overlap"]
        with pytest.raises(InputError, match=r"visual\.prior=diffusion"):
            findings(run, "visual", prior_file=kept)


def test_the_optimal_linear_attack_follows_its_laws_on_a_run(audited):
    found = findings(audited, "optimal-linear", patients=20, gallery=20)
    settings = found["MSE"].settings
    assert settings["p-value of the gamma law"] > 1e-6
    assert settings["p-value of the shrinkage law"] > 1e-6
    assert found["MSE"].value < settings["expected MSE of the best unbiased attack"]
    assert not found["re-identification rate"].exceeds
    assert "nothing of the patients' own" in found["MSE"].reading


@pytest.mark.parametrize("name", ["imprint", "trap-weights"])
def test_malicious_layers_read_images_out_unless_there_is_noise(name, bare, audited):
    (open_,) = findings(bare, name, patients=8).values()
    assert open_.value > 0.3
    assert open_.baseline == 0
    assert open_.interval.lower <= open_.value <= open_.interval.upper
    (noised,) = findings(audited, name, patients=8).values()
    assert noised.value == 0
    assert noised.settings["share recovered without clipping and noise"] > 0.3
    assert "Without clipping and noise: in" in noised.reading
    assert "Without clipping and noise" not in open_.reading


def test_clipping_that_attacks_do_not_repeat_is_told(make_run):
    with LoadedRun(make_run(training={"clipping": "per-layer"})) as run:
        (found,) = findings(run, "imprint", patients=4).values()
        assert any("per-layer" in gap for gap in found.left_out)


def test_gradients_are_inverted_and_labels_read_unless_there_is_noise(bare, audited):
    options = {"patients": 2, "search": "inverting-gradients", "iterations": 200}
    found = findings(bare, "gradient-inversion", **options)
    assert found["PSNR"].settings["gain over the guess"] > 1
    assert "something of the patients' own" in found["PSNR"].reading
    assert found["labels recognised"].value == 1
    assert found["labels recognised"].asset == "label of a patient"
    noised = findings(audited, "gradient-inversion", **options)
    assert noised["PSNR"].settings["gain over the guess"] < 0
    value, *_, mean = noised["PSNR"].settings["PSNR without clipping and noise"]
    assert value > mean + 1
    assert "Without clipping and noise: PSNR" in noised["PSNR"].reading


def test_the_search_is_chosen_on_the_adversarys_own_images(audited):
    found = findings(audited, "gradient-inversion", patients=2, batch=2, iterations=3)["SSIM"]
    assert found.settings["search"] in ("inverting-gradients", "cosine", "likelihood")
    assert "2 patients together" in found.adversary


@pytest.fixture
def segmenting(tmp_path, make_run):
    """A run that segments bright squares, loaded."""
    folder = tmp_path / "squares"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = ["file,subject,mask,split"]
    for patient in range(12):
        rng = np.random.default_rng(patient)
        pixels, mask = rng.integers(0, 90, (16, 16), np.uint8), np.zeros((16, 16), np.uint8)
        x, y = rng.integers(1, 8, 2)
        mask[x : x + 7, y : y + 7] = 255
        Image.fromarray(np.where(mask > 0, 220, pixels).astype(np.uint8)).save(folder / "images" / f"{patient}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{patient}.png")
        rows.append(f"{patient}.png,patient {patient},{patient}.png,{'test' if patient % 3 == 0 else 'train'}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    model = {"name": "default", "arguments": {"width": 8}}
    with LoadedRun(make_run("segmenter", cohort=folder / "manifest.csv", model=model, non_private=True)) as run:
        yield run


def test_a_segmenters_patients_are_rebuilt_with_known_masks_and_less_well_with_searched_ones(segmenting):
    assert ATTACKS["gradient-inversion"].unfit(segmenting) is not None
    options = {"patients": 2, "search": "inverting-gradients", "iterations": 150}
    known = findings(segmenting, "segmentation-inversion", **options)
    assert known["PSNR"].value > known["PSNR"].baseline
    assert "has the mask" in known["PSNR"].adversary
    searched = findings(segmenting, "segmentation-inversion", mask="searched", **options)
    assert searched["PSNR"].value < known["PSNR"].value
    assert "mask" not in searched["PSNR"].adversary
    (found,) = findings(segmenting, "imprint", patients=6).values()
    assert found.value > 0.3


def test_attacks_repeat_with_their_seed(audited):
    one, same, other = (
        next(ATTACKS["visual"].findings(audited, ATTACKS["visual"].options(patients=3, gallery=5, seed=seed)))
        for seed in (1, 1, 2)
    )
    assert one.value == same.value
    assert one.value != other.value


def test_images_of_the_adversary_come_from_elsewhere_or_their_source_is_told(audited, write_cohort):
    own = gather(audited, ReconstructionOptions(seed=1))
    assert "same source" in own.overlap
    copies = gather(audited, ReconstructionOptions(seed=1, public=str(write_cohort(name="copy"))))
    assert "copies of attacked ones" in copies.overlap
    with pytest.raises(InputError, match="own cohort"):
        gather(audited, ReconstructionOptions(public=audited.study.cohort.uri))
    with pytest.raises(InputError, match="No such file"):
        gather(audited, ReconstructionOptions(public="nowhere.csv"))


def test_a_set_made_from_the_other_is_told(tmp_path, make_run, write_cohort):
    cohort = write_cohort(name="kermany_cxr")
    with LoadedRun(make_run(cohort=cohort)) as run:
        derived = tmp_path / "pneumoniamnist-copy"
        shutil.copytree(write_cohort(name="elsewhere", shade=False).parent, derived)
        found = gather(run, ReconstructionOptions(seed=1, public=str(derived / "manifest.csv")))
    assert "one was made from the other" in found.overlap


def test_attacks_that_make_no_sense_say_why(audited, bare):
    assert "without noise" in ATTACKS["optimal-linear"].unfit(bare)
    assert "does not segment" in ATTACKS["segmentation-inversion"].unfit(audited)
    private = audited.study.privacy.model_copy(update={"private_activations": True})
    audited.__dict__["study"] = audited.study.model_copy(update={"privacy": private})
    for name in ("visual", "imprint", "gradient-inversion", "identification", "optimal-linear"):
        assert "not to gradients" in ATTACKS[name].unfit(audited)


def test_findings_are_valid_json_of_finite_numbers(audited):
    for finding in findings(audited, "visual", patients=3, gallery=5, noise_multipliers=(0.0, 0.1)).values():
        assert json.loads(json.dumps(finding.model_dump(mode="json"), allow_nan=False))["attack"] == "visual"


def test_the_run_folder_is_left_as_it_was_but_for_audits(audited):
    before = sorted(p.relative_to(audited.folder.path) for p in audited.folder.path.rglob("*") if p.is_file())
    findings(audited, "imprint", patients=4)
    after = sorted(p.relative_to(audited.folder.path) for p in audited.folder.path.rglob("*") if p.is_file())
    new = [path for path in after if path not in before and "cache" not in path.parts]
    assert [str(path) for path in new] == ["private/audits/imprint/images.png"]
    assert RunFolder(audited.folder.path).statement() == audited.statement
