"""How fast the program starts, and the page of the documentation that trains as a library."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reticent.governance import Ledger
from reticent.records import RunFolder

HEAVY = ("torch", "monai", "pydantic", "pandas", "numpy", "scipy", "sklearn", "matplotlib")
LIBRARY_PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"

HELP = f"""
import sys
from reticent.cli import main
try:
    main()
except SystemExit as ended:
    print("imported:", *[name for name in {HEAVY} if name in sys.modules])
    sys.exit(ended.code)
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [(["--help"], []), (["train", "--help"], ["pydantic"])],  # Typer itself loads pydantic for a command's options
)
def test_help_imports_nothing_that_takes_long(arguments, allowed):
    ended = subprocess.run([sys.executable, "-c", HELP, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Usage" in ended.stdout
    label, *imported = ended.stdout.splitlines()[-1].split()
    assert label == "imported:"
    assert set(imported) <= set(allowed)


def replaced(text, *pairs):
    for old, new, times in pairs:
        assert text.count(old) == times, f"{old} is {text.count(old)} times in the page"
        text = text.replace(old, new)
    return text


def test_the_loop_of_the_library_page_gives_the_run_statement_and_charge_of_the_command(reticent):
    (block,) = re.findall(r"```python\n(.*?)```", LIBRARY_PAGE.read_text(), re.DOTALL)
    code = replaced(
        block,
        ("phantom:chest", "phantom:chest?subjects=120", 2),
        ('"delta": 1e-4}', '"delta": 1e-4, "steps": 3}', 1),
    )
    exec(compile(code, "docs/library.md", "exec"), {"__name__": "library"})
    ended = reticent("train", "runs/own/study.toml", "--ledger", "runs/ledger.sqlite", "--out", "runs/command")
    assert ended.code == 0
    own, command = RunFolder.open(Path("runs/own")), RunFolder.open(Path("runs/command"))
    assert own.study().privacy.steps == 3
    assert own.study() == command.study()
    assert own.state().status == command.state().status == "finished"
    guarantees = [run.statement().model_dump(exclude={"run", "created", "weights_sha256"}) for run in (own, command)]
    assert guarantees[0] == guarantees[1]
    assert own.statement().releasable
    assert own.statement().epsilon.upper <= 8
    for split in (own.metrics().splits, command.metrics().splits):
        assert "auroc" in split[0].metrics
    with Ledger.open(Path("runs/ledger.sqlite")) as site:
        site.verify([*own.state().anchors, *command.state().anchors])
        entries = site.entries()
    assert [entry.event for entry in entries] == ["reserve", "settle", "reserve", "settle"]
    assert [entry.run for entry in entries] == [own.state().run] * 2 + [command.state().run] * 2
    for ours, theirs in zip(entries[:2], entries[2:], strict=True):
        assert ours.mechanism == theirs.mechanism == own.statement().mechanism
        assert (ours.cohort, ours.fingerprint, ours.scope, ours.unit) == (
            theirs.cohort, theirs.fingerprint, theirs.scope, theirs.unit,
        )  # fmt: skip
    report = reticent("report", "runs/own")
    assert report.code == 0
    assert "Releasable" in own.report.read_text()
