"""The command line: one command per file, each loading what it needs only when it runs."""

from reticent.cli.app import main

__all__ = ["main"]
