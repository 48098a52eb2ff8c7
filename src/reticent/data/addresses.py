"""Addresses with declared rules: `scheme:PATH?rule=value&rule=value`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from reticent.errors import InputError

_PATH_RULES = {"dicom:": ("labels", "subjects"), "boxes:": ("table",)}
"""By scheme, the rules whose values are paths."""


def read_address(uri: str, scheme: str, parsers: Mapping[str, Callable[[str], Any]]) -> tuple[Path, dict[str, Any]]:
    """The path of `uri`, with or without `scheme`, and the parsed value of each rule that it names.

    Raises InputError for an unknown rule or a value that its parser refuses (ValueError).
    """
    if not uri.startswith(scheme):
        return Path(uri), {}
    path, _, query = uri.removeprefix(scheme).partition("?")
    given: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        name, found, value = part.partition("=")
        if name not in parsers or not found or not value:
            raise InputError(f"{uri}: no rule {part!r}; the rules are {', '.join(parsers)}, each as rule=value")
        try:
            given[name] = parsers[name](unquote(value))
        except (ValueError, re.error) as error:
            raise InputError(f"{uri}: {name}={unquote(value)}: {error}") from None
    return Path(unquote(path)), given


def absolute_address(uri: str) -> str:
    """The address with absolute paths, so that a stored study finds its cohort from anywhere."""
    scheme = next((scheme for scheme in _PATH_RULES if uri.startswith(scheme)), None)
    if scheme is None:
        return str(Path(uri).absolute()) if Path(uri).exists() else uri
    path, found, query = uri.removeprefix(scheme).partition("?")
    parts = []
    for part in query.split("&") if found else ():
        name, _, value = part.partition("=")
        absolute = quote(str(Path(unquote(value)).absolute()), safe="/:\\")
        parts.append(f"{name}={absolute}" if name in _PATH_RULES[scheme] and value not in ("", "none") else part)
    return f"{scheme}{quote(str(Path(unquote(path)).absolute()), safe='/:')}{found}{'&'.join(parts)}"
