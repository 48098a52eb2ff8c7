"""`reticent cite`: BibTeX of the tool and of the methods a run used."""

from pathlib import Path
from typing import Annotated

import typer


def command(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Print BibTeX entries of the tool, the methods and the data that a run used."""
    from reticent.records import RunFolder
    from reticent.report import cite

    print(cite(RunFolder.open(run)))
