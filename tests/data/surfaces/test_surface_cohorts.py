import numpy as np
import pytest

from reticent.data import SurfaceOptions, open_cohort, parse_profile
from reticent.data.surfaces import mesh_volume
from reticent.data.surfaces.preparing import GraphPreparation, ProfilePreparation
from reticent.errors import InputError

RANGE = {"volume": (0.0, 1.0)}


@pytest.fixture
def bodies(ellipsoid, tmp_path):
    """A manifest of six meshes with their volumes, of subjects p0 to p5 and two sexes."""
    lines = ["file,patient,volume,sex"]
    for i in range(6):
        mesh = ellipsoid((0.3, 0.2, 0.5 + 0.1 * i), subdivisions=2)
        mesh.to_trimesh().export(tmp_path / f"body{i}.ply")
        lines.append(f"body{i}.ply,p{i},{mesh_volume(mesh):.6f},{'FM'[i % 2]}")
    path = tmp_path / "bodies.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def bundle(tmp_path, meshes, **changed):
    arrays = {
        "vertices": np.concatenate([m.vertices for m in meshes]),
        "faces": np.concatenate([m.faces for m in meshes]),
        "vertex_offsets": np.cumsum([0, *(len(m.vertices) for m in meshes)]),
        "face_offsets": np.cumsum([0, *(len(m.faces) for m in meshes)]),
    } | changed
    np.savez(tmp_path / "bodies.npz", **arrays)
    return str(tmp_path / "bodies.npz")


def test_a_manifest_of_meshes_with_a_target_is_a_regression_cohort(bodies):
    cohort = open_cohort(str(bodies), targets=RANGE, surfaces=SurfaceOptions(faces=200))
    assert (cohort.task, cohort.classes, cohort.ranges) == ("regression", ("volume",), ((0.0, 1.0),))
    assert (cohort.ndim, cohort.channels, cohort.shape(0)) == (1, {"surface": 12}, (103,))
    record = cohort.load(2)
    assert record.inputs["surface"].shape == (12, 103)
    assert record.targets["label"] == pytest.approx([cohort.entries[2].label[0]])
    assert record.attributes == {"sex": "F"}
    assert record.subject == "p2"


def test_meshes_can_have_classes_too(bodies):
    cohort = open_cohort(str(bodies), labels=["sex"])
    assert (cohort.task, cohort.classes) == ("binary", ("F", "M"))


def test_an_archive_of_meshes_is_read_with_the_table_beside_it(ellipsoid, tmp_path):
    meshes = [ellipsoid((0.3, 0.2, 0.5 + 0.1 * i), subdivisions=2) for i in range(4)]
    address = bundle(tmp_path, meshes)
    (tmp_path / "targets.csv").write_text(
        "patient,volume,split\n" + "".join(f"p{i},0.{i + 1},train\n" for i in range(4))
    )
    options = SurfaceOptions(profile=parse_profile("z:0.2-0.8/4:area"))
    cohort = open_cohort(address, targets=RANGE, surfaces=options)
    assert [entry.subject for entry in cohort.entries] == ["p0", "p1", "p2", "p3"]
    profile = cohort.load(3).inputs["profile"]
    assert profile.shape == (1, 6)
    assert profile[0, -1] == pytest.approx(mesh_volume(meshes[3]), rel=1e-6)
    assert len({cohort.digest(i) for i in range(4)}) == 4
    unnamed = open_cohort(address, strict=False, unit="record", hashed=False)
    assert [entry.label for entry in unnamed.entries] == [None] * 4


@pytest.mark.parametrize(
    ("changed", "table", "said"),
    [
        ({"vertex_offsets": np.array([0, 3, 2, 10, 4])}, 4, "offsets grow"),
        ({"face_offsets": np.array([0, 5])}, 4, "face_offsets must go from 0 to"),
        ({}, 3, "3 rows for the 4 meshes"),
        ({}, None, "no table of its meshes"),
    ],
)
def test_a_broken_archive_or_table_is_refused(ellipsoid, tmp_path, changed, table, said):
    address = bundle(tmp_path, [ellipsoid(subdivisions=1)] * 4, **changed)
    if table is not None:
        (tmp_path / "bodies.csv").write_text("patient,volume\n" + "".join(f"p{i},0.5\n" for i in range(table)))
    with pytest.raises(InputError, match=said):
        open_cohort(address, targets=RANGE)


def test_masks_are_surfaces_whose_targets_are_the_volumes_of_their_labels(make_msd, ball):
    mask = ball(4).astype(np.uint8)
    halves = mask.copy()
    halves[:6][mask[:6] == 1] = 2
    folder = make_msd((mask * 100.0, halves), (mask * 50.0, mask))
    description = folder / "dataset.json"
    description.write_text(description.read_text().replace('"1"', '"2": "back", "1"'))
    classes = open_cohort(str(folder)).classes
    cohort = open_cohort(f"surfaces:{folder}", targets={classes[1]: (0, 500), "back": (0, 500)})
    assert cohort.entries[0].label == (float((halves == 1).sum()), float((halves == 2).sum()))
    assert cohort.entries[1].label == (float(mask.sum()), 0.0)
    assert cohort.load(0).inputs["surface"].shape == (12, 1003)
    with pytest.raises(InputError, match=r"--target volume: .*volumes of their labels.*back"):
        open_cohort(f"surfaces:{folder}", targets=RANGE)
    with pytest.raises(InputError, match="nothing to regress on"):
        open_cohort(f"surfaces:{folder}")


def test_a_manifest_of_masks_keeps_its_own_targets(save_volume, tmp_path, ball):
    for i in range(3):
        save_volume(tmp_path / f"{i}.nii.gz", ball(3 + i).astype(np.uint8))
    (tmp_path / "m.csv").write_text("file,patient,volume\n" + "".join(f"{i}.nii.gz,p{i},0.{i}\n" for i in range(3)))
    cohort = open_cohort(f"surfaces:{tmp_path / 'm.csv'}", targets=RANGE)
    assert (cohort.task, [entry.label for entry in cohort.entries]) == ("regression", [(0.0,), (0.1,), (0.2,)])
    assert cohort.load(2).inputs["surface"][6:].max() == 1002  # edges that join the last column to itself


def test_flat_masks_have_no_surface(make_manifest):
    path = make_manifest("file,patient,volume", "0.png,a,0.1", "1.png,b,0.2")
    with pytest.raises(InputError, match="surfaces are made of volumes"):
        open_cohort(f"surfaces:{path}", targets=RANGE)


def test_ranges_are_declared_and_what_lies_outside_is_told(bodies):
    with pytest.raises(InputError, match=r"--target volume: declare the range.*LOW,HIGH"):
        open_cohort(str(bodies), targets={"volume": None})
    with pytest.raises(InputError, match=r"--target volume=1,0: the first number"):
        open_cohort(str(bodies), targets={"volume": (1.0, 0.0)})
    cohort = open_cohort(str(bodies), targets={"volume": (0.0, 0.2)})
    (outside,) = (lines for title, lines in cohort.remarks.items() if "range" in title)
    assert len(outside) == sum(entry.label[0] > 0.2 for entry in cohort.entries) > 0


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", "no label in column volume"),
        ("much", "'much'.*no finite number"),
        ("nan", "no label"),
        ("inf", "no finite"),
    ],
)
def test_a_target_that_is_no_number_is_refused_with_its_row(bodies, cell, said):
    lines = bodies.read_text().splitlines()
    fields = lines[3].split(",")
    lines[3] = ",".join([*fields[:2], cell, fields[3]])
    bodies.write_text("\n".join(lines))
    with pytest.raises(InputError, match=f"row 4: .*{said}"):
        open_cohort(str(bodies), targets=RANGE)


def test_labels_and_targets_together_are_refused(bodies):
    with pytest.raises(InputError, match="--label is for classes, --target for numbers"):
        open_cohort(str(bodies), targets=RANGE, labels=["sex"])


def test_images_have_targets_too(make_manifest):
    path = make_manifest("file,patient,age_in_days", *(f"{i}.png,p{i},{100 * i}" for i in range(4)))
    cohort = open_cohort(str(path), targets={"age_in_days": (0.0, 1000.0)})
    assert (cohort.task, cohort.ndim) == ("regression", 2)
    np.testing.assert_array_equal(cohort.load(3).targets["label"], [300.0])


def test_without_a_reference_the_middle_of_the_area_is_the_origin_and_length_the_unit(ellipsoid):
    preparation = GraphPreparation(320, length=0.5)
    mesh = ellipsoid(subdivisions=2)
    shifted = mesh.with_vertices(mesh.vertices + np.array([3, 4, 5]))
    np.testing.assert_allclose(preparation.pack(shifted, ""), preparation.pack(mesh, ""), atol=2e-6)
    np.testing.assert_allclose(preparation.placed(mesh, "").vertices, mesh.vertices / 0.5, atol=1e-12)


def test_a_reference_turns_surfaces_and_gives_their_unit(ellipsoid):
    text = "ellipsoid:0.3x0.2x0.8"
    preparation = GraphPreparation(320, reference=text)
    mesh = ellipsoid(subdivisions=2)
    placed = preparation.placed(ellipsoid(seed=2, subdivisions=2), "turned")
    assert mesh_volume(placed) == pytest.approx(mesh_volume(mesh) / preparation._unit**3, rel=1e-9)
    assert np.sqrt((placed.vertices**2).sum(1).mean()) == pytest.approx(1, rel=0.05)


def test_another_unit_than_declared_is_refused(ellipsoid):
    mesh = ellipsoid(subdivisions=2)
    millimetres = mesh.with_vertices(mesh.vertices * 1000)
    for preparation in (GraphPreparation(320, length=0.5), GraphPreparation(320, reference="ellipsoid:0.3x0.2x0.8")):
        with pytest.raises(InputError, match=r"p7: its size is .* another unit \(mm, m\)\?"):
            preparation.pack(millimetres, "p7")


def test_profiles_are_relative_to_the_reference(ellipsoid):
    preparation = ProfilePreparation(parse_profile("z:0.3-0.7/3:width"), "ellipsoid:0.3x0.2x0.8")
    mesh = ellipsoid(subdivisions=4)
    np.testing.assert_allclose(preparation.pack(mesh, "")[0], 0, atol=1e-5)
    np.testing.assert_allclose(
        preparation.pack(mesh.with_vertices(1.1 * mesh.vertices), "")[0], [0.1] * 4 + [0.331], atol=1e-5
    )


@pytest.mark.parametrize("text", ["ellipsoid:1x2", "ellipsoid:0x1x1", "nowhere.ply"])
def test_another_reference_is_refused(text):
    with pytest.raises(InputError, match=text):
        GraphPreparation(100, reference=text)._reference  # noqa: B018


def test_the_bodies_of_the_bundle_are_closed_surfaces(shared):
    address = shared("anny_bodies") / "anny_bodies_500.npz"
    cohort = open_cohort(str(address), columns={"subject": "body_id"}, targets={"vat_cm2": (-100.0, 400.0)})
    assert (len(cohort.entries), len({entry.subject for entry in cohort.entries})) == (500, 500)
    for i in (0, 1, 86, 499):  # 0 and 86 have edges that sheets touch at
        surface = cohort.load(i).inputs["surface"]
        assert surface.shape == (12, 1003)
        assert np.isfinite(surface).all()
