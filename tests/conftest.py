import pytest


@pytest.fixture(autouse=True)
def site_ledger(tmp_path, monkeypatch):
    """Every test has a site ledger of its own."""
    path = tmp_path / "site" / "ledger.sqlite"
    monkeypatch.setenv("RETICENT_LEDGER", str(path))
    return path
