"""Accounting is light to import."""

import subprocess
import sys


def test_importing_accounting_loads_neither_torch_nor_dp_accounting():
    code = (
        "import sys, reticent.accounting; print([m for m in ('torch', 'monai', 'dp_accounting') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
