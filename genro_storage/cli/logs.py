"""Logging of a command as LOG_LEVEL, LOG_FORMAT and LOG_FILE say; the library itself configures none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING

from .failures import UsageError

if TYPE_CHECKING:
    import logging

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@contextmanager
def configured(environ: Mapping[str, str]) -> Iterator[None]:
    """Has the library's log written to LOG_FILE, or the standard error, once one of the three variables is set.

    LOG_LEVEL is a name as ``INFO``, by default ``WARNING``; LOG_FORMAT ``text`` or ``json``. Raises `UsageError`
    naming the variable that makes no sense.
    """
    level, form, file = (environ.get(name, "").strip() for name in ("LOG_LEVEL", "LOG_FORMAT", "LOG_FILE"))
    if not (level or form or file):
        yield
        return
    if level and level.upper() not in _LEVELS:
        raise UsageError(f"LOG_LEVEL is one of {', '.join(_LEVELS)}, not {level!r}")
    if form not in ("", "text", "json"):
        raise UsageError(f"LOG_FORMAT is text or json, not {form!r}")
    import logging

    try:
        handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace") if file else _stderr()
    except OSError as error:
        raise UsageError(f"LOG_FILE {file!r} cannot be written: {error.strerror}") from error
    handler.setFormatter(_as_json() if form == "json" else logging.Formatter(_TEXT))
    logger = logging.getLogger("genro_storage")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper() or "WARNING")
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


def _stderr() -> logging.Handler:
    import logging

    return logging.StreamHandler()


def _as_json() -> logging.Formatter:
    import logging

    class Lines(logging.Formatter):
        """One object per line: ``time`` (ISO, UTC), ``level``, ``logger``, ``message``, of errors ``exception``."""

        def format(self, record: logging.LogRecord) -> str:
            from datetime import datetime

            told = {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
            }
            if record.exc_info:
                told["exception"] = self.formatException(record.exc_info)
            return json.dumps(told)

    return Lines()
