"""What may be a base directory, a number and a file name."""

from __future__ import annotations

import os
import sys

from ..exceptions import StoragePathError


def default_base_dir() -> str:
    """`$TEMP_FILE_BASE_DIR`, else ``<system temp>/genro-storage-<uid>``."""
    chosen = os.environ.get("TEMP_FILE_BASE_DIR")
    if chosen:
        return checked_base(chosen)
    return f"{_system_temp()}/genro-storage-{os.geteuid()}"


def _system_temp() -> str:
    if "tempfile" not in sys.modules:  # or it may have been told; importing it costs as much as all the rest
        for folder in (*map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp"):
            if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
                return os.path.abspath(folder)
    import tempfile

    return tempfile.gettempdir()


def checked_base(base_dir: str | os.PathLike[str]) -> str:
    """The absolute path of what may be a base directory; raises `TypeError` or `StoragePathError`."""
    path = os.fspath(base_dir)
    if not isinstance(path, str):
        raise TypeError(f"base_dir is a str, not {type(path).__name__}")
    if not path or "\0" in path:
        raise StoragePathError(f"base_dir {path!r} is not a directory's path", path=path)
    path = os.path.abspath(path)
    if os.path.dirname(path) == path:
        raise StoragePathError("base_dir is the root of the file system; choose a directory below it", path=path)
    return path


def check_numbers(least: int = 0, **numbers: float) -> None:
    """Raises `ValueError` for a number below `least` or not finite, naming it."""
    for name, number in numbers.items():
        if not least <= number < float("inf"):
            raise ValueError(f"{name} is a number from {least} up, not {number}")


def check_name(name: str) -> None:
    """Raises `TypeError` or `StoragePathError` for what is no file name."""
    if not isinstance(name, str):
        raise TypeError(f"a file name is a str, not {type(name).__name__}")
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise StoragePathError(f"{name!r} is not a file name", path=name)
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError as error:
        raise StoragePathError(f"{name!r} has no form as a file name here", path=name) from error
    if length > 255:
        raise StoragePathError(f"a file name has at most 255 bytes, {name!r} has {length}", path=name)
