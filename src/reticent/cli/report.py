"""`reticent report`: write a run's report again."""

from pathlib import Path
from typing import Annotated

import typer


def command(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Write RUN/report.html again from the run's records (after an audit, say) and print its path."""
    from reticent.records import RunFolder
    from reticent.report import write_report

    print(write_report(RunFolder.open(run)))
