"""What the ranks of the tests run: each function in every rank, its results left in files."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.func import functional_call, grad, vmap
from torch.nn.parallel import DistributedDataParallel

from reticent.data import open_cohort
from reticent.models import ComplexClassifier
from reticent.records import Metrics, RunFolder, make_study
from reticent.training import (
    PrivateRun,
    clipped_grad,
    held_out_metrics,
    join_ranks,
    local_model,
    outer_names,
    ranks,
)
from reticent.training.averaging import MovingAverage
from reticent.training.sharding import load_whole_state, set_gradients, share_weights, unwrapped, whole, whole_state


def study_of(manifest, **privacy):
    options = {"noise_multiplier": 1.5, "steps": 6, "sampling_rate": 0.4, **privacy}
    return make_study({"cohort": {"uri": manifest}, "privacy": options})


def small_model(kind="plain"):
    """The same weights in every process; sizes that four ranks cannot share evenly; the second layer is frozen."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(256, 7), nn.Tanh(), nn.Sequential(nn.Linear(7, 7), nn.Tanh()), nn.Linear(7, 2)
    )
    for parameter in model[3].parameters():
        parameter.requires_grad_(False)
    if kind == "ddp":
        join_ranks()
        return DistributedDataParallel(model)
    if kind == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh

        mesh = init_device_mesh("cpu", (join_ranks().size,))
        fully_shard(model[1], mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model


def own_loop(kind, manifest, out, after="", seed="5"):
    """A loop of one's own with Adam; `after` some steps it saves and stops dead, on rank 1 by SIGKILL."""
    if int(os.environ.get("RANK", 0)):
        forbid_writing()
    folder, cohort = RunFolder(Path(out)), open_cohort(manifest)
    resumed = (folder.private / "run.json").exists()
    study = study_of(manifest, seed=int(seed) if seed else None)
    with PrivateRun.resume(folder, cohort) if resumed else PrivateRun.start(study, cohort, folder.path) as job:
        model = small_model(kind)
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.05)
        average, drawn = MovingAverage(unwrapped(model), 0.9), []
        parts = {"model": model, "optimiser": optimiser, "average": average}
        assert job.restore(**parts) is resumed
        for step in job.steps():
            if after and step.index == int(after) and job.ranks.rank == job.ranks.size - 1:
                os.kill(os.getpid(), 9)
            drawn.append((step.index, step.records, step.units.tolist()))
            gradients = clipped_grad(model, job.task.loss_fn(), step.batch, max_norm=job.max_norm, units=step.units)
            with torch.no_grad():
                model(torch.zeros(1, 256))  # leaves the parameters of an FSDP2 model gathered
            step.privatise(model, gradients)
            optimiser.step()
            average.update(unwrapped(model))
            job.save(**parts)
        torch.save(drawn, f"{out}-drawn-{job.ranks.rank}.pt")
        torch.save(whole(average.values), f"{out}-average-{job.ranks.rank}.pt")
        splits = held_out_metrics(unwrapped(model), job.data)
        job.finish(unwrapped(model).state_dict(), Metrics(task="binary", splits=splits))


def slow_loop(slow, manifest, out):
    """A sum waits two seconds; `slow` is "rank 0" between steps, as when it evaluates, or "rank 1" within one."""
    ranks.STEP_TIMEOUT = timedelta(seconds=2)
    with PrivateRun.start(study_of(manifest, steps=2), open_cohort(manifest), Path(out)) as job:
        model = small_model()
        for step in job.steps():
            if slow == "rank 1" and job.ranks.rank == 1:
                time.sleep(5)
            step.privatise(
                model, clipped_grad(model, job.task.loss_fn(), step.batch, max_norm=job.max_norm, units=step.units)
            )
            if slow == "rank 0" and job.ranks.rank == 0:
                time.sleep(3)


def forbid_writing():
    """Only rank 0 may open ledger and journal, or make folders."""
    import reticent.governance.ledger as ledger
    import reticent.records.journal as journal
    import reticent.records.run_folder as run_folder

    def refuse(*_, **__):
        raise AssertionError("a rank other than 0 wrote")

    ledger.Ledger.open = journal.Journal.__init__ = run_folder.RunFolder.create = refuse
    run_folder.RunFolder.write_state = Path.mkdir = refuse


def noise_of_an_empty_step(kind, manifest, out):
    """The whole gradients that each rank has after a step without any subject, times the batch size."""
    study = study_of(manifest, noise_multiplier=2.0, max_norm=0.5, sampling_rate=1e-12, batch_size=7.0, steps=1)
    with PrivateRun.start(study, open_cohort(manifest), Path(out)) as job:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 400))
        if kind == "fsdp":
            fully_shard(model)
        step = next(job.steps())
        step.privatise(
            model,
            clipped_grad(
                model, lambda m, b: m(b["inputs"]["image"]).mean(1), step.batch, max_norm=0.5, units=step.units
            ),
        )
        gradients = whole([p.grad for p in model.parameters()])
        torch.save(torch.cat([7.0 * g.flatten() for g in gradients]), f"{out}-noise-{job.ranks.rank}.pt")


def start_with_cohorts(manifest, other, out):
    """Rank 1 has another cohort."""
    cohort = open_cohort(other if os.environ["RANK"] == "1" else manifest)
    try:
        PrivateRun.start(study_of(manifest), cohort, Path(out))
    except ValueError as error:
        print(error)
        sys.exit(2)


def check_local_model(kind):
    """The forward and the per-record gradients of `local_model` are the plain model's, and leave no trace."""
    model, plain = small_model(kind), small_model()
    seen = []
    watched = model.module[4] if kind == "ddp" else model[4]
    handle = watched.register_forward_hook(lambda *_: seen.append(1))
    hooks = [list(d) for m in model.modules() for d in (m._forward_hooks, m._forward_pre_hooks)]
    names = {name: p.requires_grad for name, p in plain.named_parameters()}
    rank = int(os.environ.get("RANK", 0))
    x = torch.randn(2 + rank, 256, generator=torch.Generator().manual_seed(rank))
    if kind == "fsdp":
        shards = list(model.parameters())
        model(x[:2])  # leaves the root's parameters gathered, and so stale once the shards are updated
        seen.clear()
        with torch.no_grad():
            for parameter in [*shards, *plain.parameters()]:
                parameter.add_(0.1)
    try:
        with local_model(model) as (inner, params):
            assert {name: p.requires_grad for name, p in params.items()} == names
            assert all(type(p) in (torch.Tensor, nn.Parameter) and p.is_leaf for p in params.values())
            for _ in range(1 + rank):  # without collectives: a different number of times on each rank
                torch.testing.assert_close(functional_call(inner, params, x), plain(x), rtol=0, atol=0)

            def loss(values, one):
                return functional_call(inner, {**params, **values}, one[None]).square().sum()

            values = {name: p.detach() for name, p in params.items() if p.requires_grad}
            found = vmap(grad(loss), (None, 0))(values, x)
            for k in range(len(x)):
                trained = [p for p in plain.parameters() if p.requires_grad]
                expected = torch.autograd.grad(plain(x[k : k + 1]).square().sum(), trained)
                for own, other in zip(found.values(), expected, strict=True):
                    torch.testing.assert_close(own[k], other)
            raise KeyError
    except KeyError:
        pass
    assert len(seen) == 2 + rank, seen  # the user's own hook ran
    assert [list(d) for m in model.modules() for d in (m._forward_hooks, m._forward_pre_hooks)] == hooks
    handle.remove()
    prefix = "module." if kind == "ddp" else ""
    assert outer_names(model) == {name: prefix + name for name in names}
    assert [name for name, _ in model.named_parameters()] == [prefix + name for name in names]
    model(x[:2]).sum().backward()  # the hooks work again: a collective on every rank
    gradients = whole([p.grad for p in model.parameters() if p.requires_grad])
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert kind != "fsdp" or isinstance(model, FSDPModule)


def states(kind, path, action):
    """Train a little with ordinary gradients, save or load the whole state, and leave it after one more step."""
    model = small_model(kind)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.05)

    def step():
        for n, p in enumerate(q for q in model.parameters() if q.requires_grad):
            p.grad = p.detach().clone() * (n + 1)
        optimiser.step()

    if action == "save":
        step()
        saved = {"model": whole_state(model), "optimiser": whole_state(optimiser)}
        if join_ranks().leads:
            torch.save(saved, path)
    else:
        loaded = torch.load(path)
        load_whole_state(model, loaded["model"])
        load_whole_state(optimiser, loaded["optimiser"])
    step()
    after = whole_state(model)
    torch.save(after, f"{path}-{action}-{join_ranks().size}-{join_ranks().rank}.pt")


def shared_weights(path):
    """Every rank draws its own first weights, then has rank 0's."""
    ranks = join_ranks()
    torch.manual_seed(ranks.rank)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    share_weights(model, ranks)
    torch.save(model.state_dict(), f"{path}-{ranks.rank}.pt")


def complex_step(kind):
    """The sum over ranks of a complex network, replicated or sharded, is that of one process."""
    own = join_ranks()
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(ComplexClassifier(2, 1, 3, (16, 16), width=4))
    model, plain = networks
    if kind == "ddp":
        model = DistributedDataParallel(model)
    else:
        fully_shard(model)
    x = torch.randn(4, 1, 16, 16)

    def losses(model, batch):
        return model(batch).square().sum(1)

    found = clipped_grad(model, losses, x[2 * own.rank : 2 * own.rank + 2], max_norm=1.0)
    set_gradients(model, found.sum, lambda name, total: total, own)
    expected = clipped_grad(plain, losses, x, max_norm=1.0).sum
    for g, value in zip(whole([p.grad for p in model.parameters()]), expected.values(), strict=True):
        torch.testing.assert_close(g.to(value.dtype), value, rtol=1e-5, atol=1e-6)
    torch.optim.NAdam(model.parameters(), 0.01).step()
