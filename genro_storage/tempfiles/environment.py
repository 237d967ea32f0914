"""The settings of a manager from environment variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..exceptions import StorageConfigError

_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _flag(text: str) -> bool:
    return _FLAGS[text.lower()]


def _mask(text: str) -> int:
    mask = int(text, 8)
    if mask & ~0o777 or mask & 0o022:
        raise ValueError
    return mask


_VARIABLES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "TEMP_FILE_BASE_DIR": ("base_dir", str, "a directory"),
    "TEMP_FILE_MAX_AGE": ("max_age", float, "seconds"),
    "TEMP_FILE_CLEANUP_INTERVAL": ("cleanup_interval", float, "seconds"),
    "MAX_TEMP_FILES": ("max_files", int, "a number of files"),
    "TEMP_FILE_SIZE_LIMIT": ("max_file_bytes", int, "a number of bytes"),
    "ENABLE_TEMP_FILE_METRICS": ("metrics", _flag, "true or false"),
    "TEMP_FILE_CLEANUP_BATCH_SIZE": ("batch_size", int, "a number of files"),
    "TEMP_FILE_CLEANUP_THREADS": ("threads", int, "a number of threads"),
    "TEMP_FILE_CLEANUP_TIMEOUT": ("timeout", float, "seconds"),
    "TEMP_FILE_SECURE_DELETE": ("secure_delete", _flag, "true or false"),
    "TEMP_FILE_PERMISSION_MASK": ("permission_mask", _mask, "octal permissions without writing by group or others"),
    "TEMP_FILE_OWNER_CHECK": ("owner_check", _flag, "true or false"),
}


def settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of `TempFileManager` that are given; `StorageConfigError` names a variable that says nonsense."""
    found = {}
    for variable, (name, parse, meaning) in _VARIABLES.items():
        text = environ.get(variable, "").strip()
        if text:
            try:
                found[name] = parse(text)
            except (ValueError, KeyError):
                raise StorageConfigError(f"{variable} is {meaning}, not {text!r}") from None
    return found
