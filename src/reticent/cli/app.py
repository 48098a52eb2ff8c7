"""The `reticent` program: its commands, and how errors and interruptions end it."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from reticent import __version__
from reticent.cli import (
    account,
    audit,
    calibrate,
    cite,
    compare,
    crossval,
    data,
    inspect,
    label,
    ledger,
    localise,
    predict,
    recist,
    reconcile,
    report,
    risk,
    sweep,
    train,
)
from reticent.cli.console import print_error, print_warning
from reticent.errors import InputError
from reticent.launch import ToldError, own_rank

_SPINS = "3000"
"""Turns that OpenMP's threads wait awake, instead of 300,000: the clipped sum's own threads need their cores."""

app = typer.Typer(
    name="reticent",
    help="Private and trustworthy deep learning for medical images.",
    epilog="Exit codes: 0 done, 1 an audit contradicts a guarantee, 2 wrong input (nothing lost), 130 interrupted "
    "(resumable). Add --debug for tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of input errors.")] = False,
) -> None:
    """Private and trustworthy deep learning for medical images."""


for module in (
    train,
    label,
    sweep,
    crossval,
    reconcile,
    inspect,
    predict,
    localise,
    recist,
    audit,
    data,
    report,
    ledger,
    account,
    calibrate,
    compare,
    risk,
    cite,
):
    app.command(name=module.__name__.rpartition(".")[2])(module.command)


def main() -> None:
    """Run the program; wrong input exits with 2 and one or two lines."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    warnings.showwarning = print_warning
    if own_rank():
        warnings.simplefilter("ignore")  # rank 0 gives the same
    sys.path.append(os.getcwd())  # for --model package.module:factory
    try:
        app()
    except InputError as error:
        if "--debug" in sys.argv:
            raise
        if not isinstance(error, ToldError):
            print_error(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        if not own_rank():
            print_error("interrupted")
        sys.exit(130)
