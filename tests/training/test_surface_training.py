"""What networks and girths make of surfaces: gradients by patient, and accuracy on the bundled bodies and organs."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import trimesh
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from reticent.data.surfaces import Mesh, decimate, girth_profile, mask_to_mesh, mesh_volume, parse_profile
from reticent.data.surfaces.bundle import MeshBundle
from reticent.data.surfaces.preparing import GraphPreparation
from reticent.models import MeshSage, PointNet
from reticent.training import Regression, check_independence, clipped_grad
from reticent.training.augmentation import augment
from reticent.training.vertex_sensitivity import vertex_sensitivity

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TASK = Regression(classes=("a", "b"), ranges=((0.0, 2.0), (-1.0, 1.0)))
PREPARATION = GraphPreparation(80)


def found(name):
    if not (SHARED / name).exists():
        pytest.skip(f"the data bundle is absent ({name})")
    return SHARED / name


def bumpy(seed):
    sphere = trimesh.creation.icosphere(subdivisions=1)
    vertices = np.asarray(sphere.vertices) * np.random.default_rng(seed).uniform(0.7, 1.3, (len(sphere.vertices), 1))
    return Mesh(vertices, np.asarray(sphere.faces, np.int64))


def batch_of(n=6):
    random = np.random.default_rng(0)
    surfaces = np.stack([PREPARATION.pack(bumpy(seed), "") for seed in range(n)])
    return {"inputs": {"surface": torch.from_numpy(surfaces)},
            "targets": {"label": torch.tensor(random.uniform(-1, 2, (n, 2)), dtype=torch.float32)},
            "share": torch.ones(n)}  # fmt: skip


def networks():
    torch.manual_seed(0)
    small = {"conv_channels": (8, 16), "head": (16,)}
    return [MeshSage(1, 12, 2, **small), MeshSage(1, 12, 2, norm="graph", readout="max", features="xyz", **small),
            PointNet(1, 12, 2, channels=(8, 16), head=(8,))]  # fmt: skip


@pytest.mark.parametrize("network", networks(), ids=("sage", "sage-graph-max", "pointnet"))
@pytest.mark.parametrize("shrinkage", [None, (10.0, 0.2)])
def test_summed_clipped_gradients_of_surfaces_are_those_of_a_loop(network, shrinkage):
    task = Regression(classes=TASK.classes, ranges=TASK.ranges, shrinkage=shrinkage)
    batch, loss_fn, expected, norms = batch_of(), task.loss_fn(), {}, []
    check_independence(network, batch, lambda model, b: loss_fn(model, b))
    for i in range(6):
        one = {"inputs": {"surface": batch["inputs"]["surface"][i : i + 1]},
               "targets": {"label": batch["targets"]["label"][i : i + 1]}, "share": torch.ones(1)}  # fmt: skip
        network.zero_grad()
        loss_fn(network, one).sum().backward()
        gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
        norms.append(float(torch.sqrt(sum((g**2).sum() for g in gradients.values()))))
        for name, g in gradients.items():
            expected[name] = expected.get(name, 0) + min(1, 0.3 / norms[-1]) * g
    assert max(norms) > 0.3
    got = clipped_grad(network, loss_fn, batch, max_norm=0.3).sum
    for name, value in expected.items():
        torch.testing.assert_close(got[name].float(), value, atol=1e-5, rtol=1e-3)


def test_augmented_surfaces_keep_their_size_edges_and_padding():
    torch.manual_seed(0)
    batch = batch_of(4)
    before, after = batch["inputs"]["surface"], augment(batch)["inputs"]["surface"]
    torch.testing.assert_close(after[:, 6:], before[:, 6:])
    assert (after[:, :, -1] == before[:, :, -1]).all()
    count = 42

    def distances(x):
        points = x[:, :3, :count].transpose(1, 2).double()
        return torch.cdist(points, points)

    torch.testing.assert_close(distances(after), distances(before), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after[:, 3:6].norm(dim=1), before[:, 3:6].norm(dim=1), atol=1e-5, rtol=1e-4)
    assert (after[:, :3] - before[:, :3]).abs().max() > 0.01


def test_sensitivity_of_a_network_that_measures_the_volume_is_one_everywhere():
    """The flux of x / 3 is the volume of a closed surface, whatever vertex is moved."""

    class Volume(torch.nn.Module):
        def forward(self, packed):
            flux = (packed[:, :3] * packed[:, 3:6]).sum((1, 2)) / 3 * (4 * np.pi / packed.shape[2])
            return flux[:, None]

    task, mesh = Regression(classes=("volume",), ranges=((-1.0, 1.0),)), bumpy(3)
    for length in (1.0, 0.5):
        shown, values = vertex_sensitivity(Volume(), task, GraphPreparation(80, length=length), mesh, "made up")
        np.testing.assert_array_equal(shown.vertices, mesh.vertices)
        np.testing.assert_allclose(values["volume"] * length**3, 1, rtol=1e-6)


def test_sensitivity_is_that_of_finite_differences():
    torch.manual_seed(0)
    network, mesh = networks()[0], bumpy(4)
    _, values = vertex_sensitivity(network, TASK, PREPARATION, mesh, "made up")
    placed = PREPARATION.placed(mesh, "")
    from reticent.data.surfaces import area_normals

    normals = area_normals(placed)
    areas = np.linalg.norm(normals, axis=1)

    def predicted(step, vertex):
        moved = placed.vertices.copy()
        moved[vertex] += step * normals[vertex] / areas[vertex]
        packed = torch.from_numpy(PREPARATION.packed(Mesh(moved, placed.faces), "").astype(np.float64))
        return TASK.physical(network.double()(packed[None]))[0].detach().numpy()

    for vertex in (0, 17):
        slope = (predicted(1e-2, vertex) - predicted(-1e-2, vertex)) / 2e-2 / areas[vertex]
        np.testing.assert_allclose([values["a"][vertex], values["b"][vertex]], slope, rtol=0.05, atol=0.01)


def test_girths_rank_above_waist_and_waist_above_bmi_below_the_ceiling():
    """On the 100 bodies held out; a profile of six cuts, for its cost."""
    folder = found("anny_bodies")
    table, bundle = pd.read_csv(folder / "targets.csv"), MeshBundle(folder / "anny_bodies_500.npz")
    profile = parse_profile("z:0.48-0.78/6:perimeter+width+depth")
    girths = np.stack([girth_profile(bundle.surface(k), profile) for k in range(500)])
    test = (table["split"] == "test").to_numpy()
    for target in ("vat_cm2", "asat_cm2"):
        y = table[target].to_numpy()

        def score(model, x, y=y):
            return r2_score(y[test], model.fit(x[~test], y[~test]).predict(x[test]))

        bmi = score(LinearRegression(), table[["bmi"]].to_numpy())
        waist = score(LinearRegression(), table[["waist_cm", "male"]].to_numpy())
        ridge = score(make_pipeline(StandardScaler(), Ridge(10.0)), girths)
        ceiling = r2_score(y[test], table[f"{target[:-4]}_noisefree_cm2"][test])
        assert bmi + 0.1 < waist < ridge <= ceiling + 0.01


@pytest.fixture(scope="module")
def hippocampi():
    """Volume of the mesh, voxels, and the voxels of both parts, of all 260; and cut areas, height and mesh volume."""
    profile, rows, cuts = parse_profile("y:0.025-0.975/20"), [], []
    for path in sorted((found("msd_hippocampus") / "labelsTr").glob("*.nii.gz")):
        mask = np.asarray(nibabel.load(path).dataobj)
        mesh = mask_to_mesh(mask, (1, 1, 1), name=path.name)
        rows.append([mesh_volume(mesh), (mask > 0).sum(), (mask == 1).sum(), (mask == 2).sum()])
        cuts.append(girth_profile(mesh, profile))
    return np.array(rows, np.float64), np.array(cuts)


def test_surfaces_of_hippocampi_have_99_percent_of_their_voxels(hippocampi):
    rows, _ = hippocampi
    ratios = rows[:, 0] / rows[:, 1]
    assert len(ratios) == 260
    assert np.median(ratios) == pytest.approx(0.990, abs=0.001)
    assert ratios.std() < 0.002
    assert r2_score(rows[:, 1], rows[:, 0] / ratios.mean()) > 0.999


def test_the_profile_of_a_hippocampus_tells_more_of_its_parts_than_its_volume(hippocampi):
    rows, cuts = hippocampi
    folds = KFold(10, shuffle=True, random_state=0)
    for target, of_volume, of_profile in ((2, 0.74, 0.88), (3, 0.53, 0.78)):
        y = rows[:, target]
        volume = r2_score(y, cross_val_predict(LinearRegression(), rows[:, :1], y, cv=folds))
        ridge = make_pipeline(StandardScaler(), Ridge(1.0))
        profile = r2_score(y, cross_val_predict(ridge, cuts, y, cv=folds))
        assert volume == pytest.approx(of_volume, abs=0.02)
        assert profile == pytest.approx(of_profile, abs=0.03)


def learned(network, surfaces, targets, train, test, epochs, batch=8, rate=3e-3):
    """Test R2 of each target of ordinary training with Adam, a cosine and gradients of norm 1 at most."""
    torch.manual_seed(0)
    middle, half = targets[train].mean(0), targets[train].std(0)
    y = (targets - middle) / half
    optimiser = torch.optim.Adam(network.parameters(), rate)
    steps = epochs * (len(train) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        place = step % (len(train) // batch)
        if place == 0:
            order = train[torch.randperm(len(train))]
        rows = order[place * batch : (place + 1) * batch]
        loss = ((network(surfaces[rows]) - y[rows]) ** 2).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        predicted = network(surfaces[test]) * half + middle
    return [r2_score(targets[test, k], predicted[:, k]) for k in range(targets.shape[1])]


@pytest.mark.slow
def test_a_network_with_area_normals_is_better_than_bmi_and_sex_on_bodies():
    folder = found("anny_bodies")
    table, bundle = pd.read_csv(folder / "targets.csv"), MeshBundle(folder / "anny_bodies_500.npz")
    preparation = GraphPreparation(2000, length=0.5)
    surfaces = torch.from_numpy(np.stack([preparation.pack(bundle.surface(k), "") for k in range(500)]))
    targets = torch.tensor(table[["vat_cm2", "asat_cm2"]].to_numpy(), dtype=torch.float32)
    test = torch.tensor((table["split"] == "test").tolist())
    torch.manual_seed(0)
    scores = learned(MeshSage(1, 12, 2), surfaces, targets, torch.nonzero(~test)[:, 0], torch.nonzero(test)[:, 0], 12)
    assert scores[0] > 0.16
    assert scores[1] > 0.62


@pytest.mark.slow
def test_a_network_on_hippocampi_is_better_than_their_volume(hippocampi):
    rows, preparation, surfaces = hippocampi[0], GraphPreparation(1000, length=15.0), []
    for path in sorted((found("msd_hippocampus") / "labelsTr").glob("*.nii.gz")):
        mesh = mask_to_mesh(np.asarray(nibabel.load(path).dataobj), (1, 1, 1))
        assert len(decimate(mesh, 1000).faces) <= 1000
        surfaces.append(preparation.pack(mesh, path.name))
    order = torch.from_numpy(np.random.default_rng(0).permutation(260))
    train, test = order[60:], order[:60]
    targets = torch.tensor(rows[:, 2:], dtype=torch.float32)
    torch.manual_seed(0)
    scores = learned(MeshSage(1, 12, 2), torch.from_numpy(np.stack(surfaces)), targets, train, test, 80)
    for k in range(2):
        volume = LinearRegression().fit(rows[train, :1], rows[train, 2 + k]).predict(rows[test, :1])
        assert scores[k] > r2_score(rows[test, 2 + k], volume)
