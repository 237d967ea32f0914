"""Temporary files that no crash leaves behind: born inside a directory that a living process holds locked."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .manager import TempFileManager
    from .sweep import SweepReport

__all__ = ["SweepReport", "TempFileManager"]

_HOMES = {"SweepReport": "sweep", "TempFileManager": "manager"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
