"""The log of temporary files, which loads `logging` with its first word: most processes never say one."""

from __future__ import annotations

import sys
from typing import Any

NAME = "genro_storage.tempfiles"
_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40


def debug(message: str, *values: object) -> None:
    _say(_DEBUG, message, values)


def info(message: str, *values: object) -> None:
    _say(_INFO, message, values)


def warning(message: str, *values: object) -> None:
    _say(_WARNING, message, values)


def error(message: str, *values: object) -> None:
    _say(_ERROR, message, values)


_logger: Any = None


def _say(level: int, message: str, values: tuple[object, ...]) -> None:
    global _logger
    if _logger is None:
        if level < _WARNING and "logging" not in sys.modules:
            return  # nobody can have asked for it
        import logging

        _logger = logging.getLogger(NAME)
    if _logger.isEnabledFor(level):
        _logger.log(level, message, *values, stacklevel=3)
