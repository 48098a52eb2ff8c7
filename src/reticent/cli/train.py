"""`reticent train`: a private model with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.console import console, progress
from reticent.cli.left_out import left_out_words, remark_words
from reticent.cli.ranks import on_all_ranks, on_rank_zero
from reticent.cli.train_options import given_flags, study_values
from reticent.cli.train_result import finish
from reticent.errors import InputError
from reticent.launch import own_rank

if TYPE_CHECKING:
    from reticent.data import Cohort
    from reticent.records import RunFolder, Study

_TARGET, _STUDY, _COHORT = "Privacy target (exactly one)", "Privacy", "Cohort"
_MODEL, _TRAINING, _JOB = "Model", "Training", "Job"
Option = typer.Option


def command(
    cohort: Annotated[
        str | None,
        typer.Argument(
            help="Folder of class folders, manifest (CSV, Parquet) of images or meshes, folder of DICOM files "
            "(dicom:FOLDER?rule=value), MSD or nnU-Net folder, boxes in a VOC folder or COCO file, MedMNIST .npz or "
            "medmnist:NAME, .npz of meshes, surfaces:ADDRESS (masks as surfaces), phantom:chest, or a study.toml to "
            "repeat.",
            show_default=False,
        ),
    ] = None,
    epsilon: Annotated[float | None, Option(help="(epsilon, delta)-DP, with --delta.", rich_help_panel=_TARGET)] = None,
    mu: Annotated[float | None, Option(help="Gaussian DP.", rich_help_panel=_TARGET)] = None,
    advantage: Annotated[float | None, Option(help="Membership advantage, 0 to 1.", rich_help_panel=_TARGET)] = None,
    noise_multiplier: Annotated[float | None, Option(help="Noise std / clip norm.", rich_help_panel=_TARGET)] = None,
    non_private: Annotated[
        bool, Option("--non-private", help="No privacy; never releasable.", rich_help_panel=_TARGET)
    ] = False,
    delta: Annotated[
        float | None, Option(help="Delta of epsilon; below 1 / subjects.", rich_help_panel=_TARGET)
    ] = None,
    unit: Annotated[
        str | None, Option(help="subject (patient, default) or record.", rich_help_panel=_STUDY, show_default=False)
    ] = None,
    noise: Annotated[
        str | None, Option(help="independent (default), or banded: correlated over steps.", rich_help_panel=_STUDY)
    ] = None,
    bands: Annotated[
        int | None,
        Option(help="Steps that banded noise is correlated over, and groups that take turns.", rich_help_panel=_STUDY),
    ] = None,
    sampling_rate: Annotated[
        float | None,
        Option(help="Chance of each subject at each step (0.2); if banded, at its turns.", rich_help_panel=_STUDY),
    ] = None,
    steps: Annotated[int | None, Option(help="Steps (100).", rich_help_panel=_STUDY)] = None,
    epochs: Annotated[
        float | None,
        Option(help="Expected uses of each subject; chooses sampling rate and steps.", rich_help_panel=_STUDY),
    ] = None,
    max_norm: Annotated[float | None, Option(help="Clip norm of a subject (1).", rich_help_panel=_STUDY)] = None,
    max_records_per_subject: Annotated[
        int | None, Option(help="Images of a subject used per step (4).", rich_help_panel=_STUDY)
    ] = None,
    batch_size: Annotated[
        float | None, Option(help="Expected subjects per step, declared as a constant.", rich_help_panel=_STUDY)
    ] = None,
    private_activations: Annotated[
        bool,
        Option(
            "--private-activations",
            help="Noise once on features of the frozen --init-from network; trains its last layer.",
            rich_help_panel=_STUDY,
        ),
    ] = False,
    feature_dimension: Annotated[
        int | None, Option(help="Features left of an image for it (32).", rich_help_panel=_STUDY)
    ] = None,
    label_epsilon: Annotated[
        float | None, Option(help="Randomised response to its labels (none: they are public).", rich_help_panel=_STUDY)
    ] = None,
    budget: Annotated[
        str | None,
        Option(help="Refuse what exceeds it over all jobs: mu=2 or epsilon=8,delta=1e-5.", rich_help_panel=_STUDY),
    ] = None,
    seed: Annotated[
        int | None, Option(help="Repeatable noise, for tests; not releasable.", rich_help_panel=_STUDY)
    ] = None,
    label: Annotated[
        list[str] | None, Option(help="Label column; several for multi-label.", rich_help_panel=_COHORT)
    ] = None,
    pretrain: Annotated[
        bool | None,
        Option(
            "--pretrain",
            help="Learn without labels, by restoring hidden parts of images; its encoder starts others (--init-from).",
            rich_help_panel=_COHORT,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        Option(
            help="Number to predict, with its possible range: NAME=LOW,HIGH in its unit; repeatable.",
            rich_help_panel=_COHORT,
        ),
    ] = None,
    column: Annotated[
        list[str] | None, Option(help="Column of a manifest, as subject=patient_id.", rich_help_panel=_COHORT)
    ] = None,
    image_size: Annotated[str | None, Option(help="Pixels, as 64 or 32x48x32.", rich_help_panel=_COHORT)] = None,
    normalise: Annotated[
        str | None,
        Option(
            help="standardise each image, scale its range, or auto (default): scale 8-bit images.",
            rich_help_panel=_COHORT,
        ),
    ] = None,
    grey: Annotated[bool, Option("--grey", help="Colour to grey.", rich_help_panel=_COHORT)] = False,
    marker: Annotated[
        list[str] | None,
        Option(
            help="Column beside the image, as crp=CENTRE,SCALE[,log][,LOW..HIGH] or sex=f|m; repeatable.",
            rich_help_panel=_COHORT,
        ),
    ] = None,
    acquisition: Annotated[
        list[str] | None,
        Option(help="Attribute of how images were taken, for a reference; repeatable.", rich_help_panel=_COHORT),
    ] = None,
    spacing: Annotated[
        str | None,
        Option(help="Voxels of this size in mm, as 1.5 or 1x1x3, cut or padded to size.", rich_help_panel=_COHORT),
    ] = None,
    patch_size: Annotated[
        str | None,
        Option(help="Segment by patches of this size, from images of any size.", rich_help_panel=_COHORT),
    ] = None,
    window: Annotated[
        str | None,
        Option(help="Of CT: lung, bone, soft-tissue … or CENTRE,WIDTH; becomes 0 to 1.", rich_help_panel=_COHORT),
    ] = None,
    faces: Annotated[int | None, Option(help="Of a surface, at most (2000).", rich_help_panel=_COHORT)] = None,
    reference: Annotated[
        str | None,
        Option(
            help="Public mesh, or ellipsoid:AxBxC: surfaces are registered to it, profiles compared with it.",
            rich_help_panel=_COHORT,
        ),
    ] = None,
    length: Annotated[
        float | None,
        Option(help="Size of surfaces in their files' unit (the reference's, or 1).", rich_help_panel=_COHORT),
    ] = None,
    profile: Annotated[
        str | None,
        Option(help="Girths of surfaces: body, or AXIS:FROM-TO/CUTS as y:0.05-0.95/20.", rich_help_panel=_COHORT),
    ] = None,
    download: Annotated[
        bool, Option("--download", help="Allow fetching a MedMNIST set.", rich_help_panel=_COHORT)
    ] = False,
    model: Annotated[
        str | None,
        Option(
            help="default, smoothnet, resnet9, complex, slices, centre-detector, mesh-sage, pointnet, ridge, "
            "monai:NAME or package.module:factory.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    model_argument: Annotated[
        list[str] | None, Option(help="Argument of the network, as width=32.", rich_help_panel=_MODEL)
    ] = None,
    scale_norm: Annotated[
        bool, Option("--scale-norm", help="One more norm behind every addition.", rich_help_panel=_MODEL)
    ] = False,
    standardise_weights: Annotated[
        bool, Option("--standardise-weights", help="Convolutions with standardised filters.", rich_help_panel=_MODEL)
    ] = False,
    init_from: Annotated[Path | None, Option(help="Public first weights.", rich_help_panel=_MODEL)] = None,
    init_origin: Annotated[str | None, Option(help="Their declared source.", rich_help_panel=_MODEL)] = None,
    fine_tune: Annotated[
        str | None,
        Option(help="Of public weights: all (default), last (layer), biases or lora.", rich_help_panel=_MODEL),
    ] = None,
    lora_rank: Annotated[int | None, Option(help="Rank of each lora addition (4).", rich_help_panel=_MODEL)] = None,
    optimiser: Annotated[
        str | None, Option(help="nadam (default), adam, sgd or langevin.", rich_help_panel=_TRAINING)
    ] = None,
    learning_rate: Annotated[
        float | None, Option(help="First learning rate (0.01).", rich_help_panel=_TRAINING)
    ] = None,
    temperature: Annotated[
        float | None,
        Option(help="Of langevin; sets the learning rate. 1: the posterior.", rich_help_panel=_TRAINING),
    ] = None,
    prior_precision: Annotated[
        float | None, Option(help="Of every weight in langevin (1).", rich_help_panel=_TRAINING)
    ] = None,
    posterior_samples: Annotated[
        int | None, Option(help="Weights kept by langevin to predict with (30).", rich_help_panel=_TRAINING)
    ] = None,
    schedule: Annotated[str | None, Option(help="cosine (default) or constant.", rich_help_panel=_TRAINING)] = None,
    augment: Annotated[
        str | None, Option(help="light (rotate, zoom, shift, grey curve; default) or none.", rich_help_panel=_TRAINING)
    ] = None,
    views: Annotated[
        int | None,
        Option(
            help="Augmented views (1) or patches (4) of an image, averaged before clipping.", rich_help_panel=_TRAINING
        ),
    ] = None,
    foreground: Annotated[
        float | None, Option(help="Chance of a patch to be centred on the foreground (0.5).", rich_help_panel=_TRAINING)
    ] = None,
    mask_weight: Annotated[
        float | None,
        Option(
            help="Learn from masks (--column mask=NAME) beside --label, with this weight; labels may then be missing.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    ema_decay: Annotated[
        float | None, Option(help="Moving average of weights (0.98).", rich_help_panel=_TRAINING)
    ] = None,
    bias_aware: Annotated[
        float | None, Option(help="Step up each subject's own gradient before clipping (0).", rich_help_panel=_TRAINING)
    ] = None,
    clipping: Annotated[
        str | None, Option(help="flat (default), automatic or per-layer.", rich_help_panel=_TRAINING)
    ] = None,
    class_weights: Annotated[
        str | None, Option(help="As 1,2.5; or counted (bought with noise).", rich_help_panel=_TRAINING)
    ] = None,
    loss: Annotated[
        str | None, Option(help="Of numbers: squared (default) or shrinkage.", rich_help_panel=_TRAINING)
    ] = None,
    shrinkage: Annotated[
        str | None, Option(help="Its slope and size in the targets' unit (10,0.2).", rich_help_panel=_TRAINING)
    ] = None,
    memory_mb: Annotated[
        int | None, Option(help="Cap on per-image gradients (1024).", rich_help_panel=_TRAINING)
    ] = None,
    twin: Annotated[
        bool, Option("--twin", help="Also measure a non-private twin; charged as unbounded.", rich_help_panel=_JOB)
    ] = False,
    out: Annotated[Path | None, Option(help="Run folder (runs/COHORT-NNN).", rich_help_panel=_JOB)] = None,
    ledger: Annotated[Path | None, Option(help="Site ledger, or $RETICENT_LEDGER.", rich_help_panel=_JOB)] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show noise, time and memory; reads no pixels.", rich_help_panel=_JOB)
    ] = False,
    resume: Annotated[Path | None, Option(help="Continue an interrupted run.", rich_help_panel=_JOB)] = None,
) -> None:
    """Train a differentially private classifier, segmenter, detector or predictor of numbers.

    It leaves a run folder with its evidence. The noise is calibrated to the target before training; every patient
    (subject) is one unit of privacy.

    Example: reticent train cohort/manifest.csv --epsilon 8 --delta 1e-4
    """
    flags = dict(locals())
    for name in ("cohort", "download", "out", "ledger", "dry_run", "resume"):
        flags.pop(name)
    study = on_rank_zero(lambda: _study(cohort, flags, out=out, dry_run=dry_run, resume=resume))
    if study is None:
        assert resume is not None
        finish(_resume(resume, ledger, download))
        return
    with on_all_ranks():
        opened = _open(study, download, hashed=not dry_run)
    if opened.classes:
        what = "Targets" if opened.task == "regression" else "Classes"
        console.print(f"{what} (their names become public): {', '.join(opened.classes)}", highlight=False, markup=False)
    if opened.left_out:
        console.print(left_out_words(opened), highlight=False, markup=False)
    if opened.remarks:
        console.print(remark_words(opened), highlight=False, markup=False)
    if not dry_run:
        finish(_start(study, opened, out, ledger))
    elif own_rank() == 0:
        from reticent.cli.dry_run import show_dry_run
        from reticent.governance import ledger_path

        show_dry_run(study, opened, ledger_path(ledger))


def _study(
    cohort: str | None, flags: dict[str, Any], *, out: Path | None, dry_run: bool, resume: Path | None
) -> Study | None:
    """The study that the options ask for; None if they ask to resume one."""
    if resume is not None:
        if cohort is not None or out is not None or dry_run or given_flags(flags):
            raise InputError("--resume continues a run with its stored study; leave out the cohort and other options")
        return None
    if cohort is None:
        raise InputError("name a cohort or a study.toml; `reticent train --help` lists what is recognised")
    from reticent.records import make_study

    study = make_study(*study_values(cohort, flags))
    if not dry_run and out is not None and out.exists():
        raise InputError(f"{out}: exists already. Choose another --out, or continue it with --resume {out}")
    if study.privacy.budget is not None:
        from reticent.governance import Budget

        rule = Budget.parse(study.privacy.budget, study.privacy.delta).filter()
        console.print(rule.describe(), highlight=False)
    return study


def _open(study: Study, download: bool, *, hashed: bool = True) -> Cohort:
    from reticent.training import open_study_cohort

    with progress() as advance:
        return open_study_cohort(study.cohort, download=download, hashed=hashed, progress=advance)


def _start(study: Study, cohort: Cohort, out: Path | None, ledger: Path | None) -> RunFolder:
    from reticent.records import default_run_path
    from reticent.training import make_plan, train

    plan = on_rank_zero(lambda: make_plan(study, len(cohort.classes)))
    path = out or default_run_path(cohort.name)
    if cohort.citation:
        console.print(f"Cohort {cohort.name} ({cohort.licence}): {cohort.citation}", highlight=False, style="dim")
    try:
        with progress() as advance:
            return train(study, cohort, path, ledger=ledger, plan=plan, progress=advance)
    except KeyboardInterrupt:
        _say_resumable(path)
        raise


def _resume(path: Path, ledger: Path | None, download: bool) -> RunFolder:
    from reticent.records import RunFolder
    from reticent.training import resume_training

    if (path.absolute().parent / "private" / "campaign.json").is_file():
        raise InputError(f"{path}: a phase of a campaign; continue it with `reticent label {path.parent}`")
    folder = on_rank_zero(lambda: RunFolder.open(path, finished=False))
    with on_all_ranks():
        cohort = _open(folder.study(), download)
    try:
        with progress() as advance:
            return resume_training(folder, cohort, ledger=ledger, progress=advance)
    except KeyboardInterrupt:
        _say_resumable(path)
        raise


def _say_resumable(path: Path) -> None:
    if (path / "private" / "run.json").is_file():
        console.print(f"The steps so far are kept and spent; continue with: reticent train --resume {path}")
