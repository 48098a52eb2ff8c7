"""`reticent audit`: what attacks recover from a run, or show of somebody's own private code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reticent.cli.console import console, print_error, progress
from reticent.errors import InputError

if TYPE_CHECKING:
    from reticent.attacks import Attack, AttackOptions, LoadedRun
    from reticent.records import Finding


def command(
    run: Annotated[Path | None, typer.Argument(help="Run folder.", show_default=False)] = None,
    attack: Annotated[list[str] | None, typer.Option(help="Name of an attack; repeatable (see --list).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Option of an attack, as lira.references=16; repeatable.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of intervals and lower bounds.")] = 0.95,
    seed: Annotated[int | None, typer.Option(help="Repeats an audit; drawn and recorded if left out.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time.")] = 1,
    backend: Annotated[str, typer.Option(help="joblib's: loky, or that of a cluster (dask, ray).")] = "loky",
    script: Annotated[
        Path | None, typer.Option(help="Python file with your own private training, in place of a run.")
    ] = None,
    ledger: Annotated[Path | None, typer.Option(help="Site ledger, if it was moved.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Allow fetching a MedMNIST set.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the attacks, their cost and options.")] = False,
) -> None:
    """Attack a finished run and put what was achieved beside what is guaranteed, in findings/ and report.html.

    Without --attack: those that cost no more than one training together. Exit code 1: an attack achieved more than the
    guarantee admits, so that what ran is not what was accounted for.

    Example: reticent audit runs/clinic-001 --attack lira --set lira.references=16 --jobs 2
    """
    if list_:
        _show_attacks()
        return
    if (run is None) == (script is None):
        raise InputError("name a run folder, or a file with --script; `reticent audit --list` shows the attacks")
    from reticent.cli.sweep import register_backend

    register_backend(backend)
    common = {"confidence": confidence, "seed": seed, "jobs": jobs, "backend": backend}
    if run is not None:
        _end(_audit(run, attack or [], set_ or [], common, ledger, download))
        return
    assert script is not None
    if attack or set_:
        raise InputError("--script is audited in one way; leave out --attack and --set")
    from reticent.attacks import AttackOptions, audit_script

    options = _options(AttackOptions, "script", common, ())
    findings = list(_said(audit_script(script, options)))
    _print_table(findings)
    _end(findings)


def _audit(
    path: Path,
    names: Sequence[str],
    settings: Sequence[str],
    common: dict[str, Any],
    ledger: Path | None,
    download: bool,
) -> list[Finding]:
    from reticent.attacks import LoadedRun, UnfinishedAudit, chosen_attacks
    from reticent.records import RunFolder
    from reticent.report import write_report

    folder = RunFolder.open(path)
    chosen = chosen_attacks(names)
    _require_chosen(settings, [attack.name for attack in chosen])
    planned = [(attack, _options(attack.options, attack.name, common, settings)) for attack in chosen]
    try:
        with progress() as advance, LoadedRun(folder, ledger, advance, download) as run:
            fit = list(_fit(run, planned, named=bool(names)))
            if any(attack.patients for attack, _ in fit):
                _ = run.data  # before anything takes time: they may be gone
            with UnfinishedAudit.begin(folder, {attack.name: options for attack, options in fit}) as audit:
                run.drawn_seed = audit.seed
                for attack, options in fit:
                    if attack.name in audit.done:
                        console.print(f"{attack.name}: was done before the interruption", highlight=False)
                    else:
                        audit.add(attack.name, list(_said(attack.findings(run, options))))
                with run.site() as site:
                    site.record("audit", run.state.run, {"attacks": [attack.name for attack, _ in fit]})
                findings = audit.end()
    except KeyboardInterrupt:
        console.print("Findings so far and trained models are kept; the same command goes on.")
        raise
    _print_table(findings)
    _print_left_out([attack.name for attack, _ in fit])
    report = write_report(folder)
    console.print(f"Findings: {folder.findings}\nReport: {report}", highlight=False, markup=False, soft_wrap=True)
    return findings


def _fit(
    run: LoadedRun, planned: Sequence[tuple[Attack, AttackOptions]], *, named: bool
) -> Iterator[tuple[Attack, AttackOptions]]:
    """The attacks that make sense on the run; one that was asked for by name must."""
    for attack, options in planned:
        if (why := attack.unfit(run)) is None:
            yield attack, options
        elif named:
            raise InputError(f"{run.folder.path}: the attack {attack.name} makes no sense here: {why}")
        else:
            console.print(f"{attack.name}: left out, {why}", highlight=False)


def _require_chosen(settings: Sequence[str], names: Sequence[str]) -> None:
    for item in settings:
        name, found, _ = item.partition("=")[0].partition(".")
        if not found or "=" not in item:
            raise InputError(f"--set {item!r}: write it as ATTACK.OPTION=VALUE")
        if name not in names:
            raise InputError(
                f"--set {item!r}: the audit has no attack {name!r}, but {', '.join(names)}; add --attack {name}"
            )


def _options(kind: type[AttackOptions], name: str, common: dict[str, Any], settings: Sequence[str]) -> AttackOptions:
    """The options of an attack: those of the command, and those that --set gives it."""
    from pydantic import ValidationError

    from reticent.cli.train_options import pairs

    own = pairs("set", [item.removeprefix(f"{name}.") for item in settings if item.startswith(f"{name}.")])
    try:
        return kind.model_validate({**common, **own})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0])
        where = f"--{option}" if option in common else f"--set {name}.{option}"
        raise InputError(f"{where}: {first['msg']}; {name} has the options {', '.join(kind.model_fields)}") from None


def _said(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Each finding's sentence as soon as it is known."""
    for finding in findings:
        console.print(f"{finding.attack}: {finding.reading}", highlight=False, markup=False)
        yield finding


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.table import Table

    from reticent.report import achieved, guaranteed

    table = Table("attack", "metric", "achieved", "guessing", "guaranteed")
    for finding in findings:
        baseline = "" if finding.baseline is None else f"{finding.baseline:.4g}"
        table.add_row(finding.attack, finding.metric, achieved(finding), baseline, guaranteed(finding))
    console.print(table)


def _print_left_out(done: Sequence[str]) -> None:
    from reticent.attacks import ATTACKS

    others = [name for name in ATTACKS if name not in done]
    if others:
        console.print(f"Not part of this audit: {', '.join(others)} (`reticent audit --list`).", highlight=False)


def _show_attacks() -> None:
    from rich.table import Table

    from reticent.attacks import ATTACKS, AttackOptions

    table = Table("attack", "what it tries", "cost", "options of its own")
    for attack in ATTACKS.values():
        fields = attack.options.model_fields
        own = [f"{name}={fields[name].default}" for name in fields if name not in AttackOptions.model_fields]
        name = f"{attack.name} (default)" if attack.default else attack.name
        table.add_row(name, attack.summary, attack.cost, "\n".join(own))
    console.print(table)


def _end(findings: Sequence[Finding]) -> None:
    """Exit code 1 where a finding contradicts its guarantee."""
    broken = [finding for finding in findings if finding.exceeds]
    for finding in broken:
        print_error(
            f"{finding.attack}: {finding.metric} contradicts what is guaranteed. {finding.reading}\n"
            "What ran is not what was accounted for: do not release the model, and look for the bug."
        )
    if broken:
        raise typer.Exit(1)
