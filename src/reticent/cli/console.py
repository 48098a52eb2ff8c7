"""What all commands print with: errors, warnings, progress, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from reticent.launch import own_rank

console = Console(emoji=False, quiet=own_rank() > 0)
_errors = Console(stderr=True, emoji=False)


def print_error(message: str) -> None:
    """An error on standard error, without markup."""
    _errors.print(f"error: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def print_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Ours in one line; those of libraries' internals are left out."""
    if category is UserWarning:
        _errors.print(f"warning: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar with time left for each stage; yields `advance(stage, done, total)`. Rank 0 alone shows it."""
    if own_rank():
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_errors) as bar:
        tasks: dict[str, Any] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield advance


def print_json(value: Any) -> None:
    """Plain JSON on standard output."""
    import json

    print(json.dumps(value, indent=2))
