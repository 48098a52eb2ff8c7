"""Accounting is light to import."""

import subprocess
import sys

HEAVY = (
    "torch",
    "monai",
    "pandas",
    "pydantic",
    "dp_accounting",
    "matplotlib",
    "scipy.optimize",
    "scipy.stats",
    "scipy.signal",
)


def test_importing_accounting_loads_nothing_heavy():
    code = f"import sys, reticent.accounting; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
