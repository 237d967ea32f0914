"""What the tests of the local backend share."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from genro_storage.backends import _kernel, _localfile, local
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.mount import Mount
from genro_storage.types import WriteOptions


def storage(folder: Path, **keys: object) -> LocalStorage:
    return LocalStorage(LocalOptions(path=str(folder), **keys))  # type: ignore[arg-type]


def mount(folder: Path, **keys: object) -> Mount:
    return Mount("m", storage(folder, **keys))


def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a system without nameless files, openat2, renameat2 and copies inside the kernel."""
    monkeypatch.setattr(_localfile, "NAMELESS", 0)
    monkeypatch.setattr(local, "NAMELESS", 0)
    monkeypatch.setattr(_kernel, "open_directory", lambda path: -1)
    monkeypatch.setattr(_kernel, "open_any", lambda path: -1)
    monkeypatch.setattr(_kernel, "_libc", SimpleNamespace())
    monkeypatch.setattr(_kernel, "_reflink", lambda source, target: False)
    monkeypatch.setattr(_kernel, "_copy_range", unsupported)
    monkeypatch.setattr(_kernel, "_send", unsupported)


def unsupported(*arguments: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


CALLS = ("close", "copy_file_range", "fchmod", "fchown", "fstat", "fsync", "link", "mkdir", "open", "pread", "pwrite")
CALLS += ("rename", "sendfile", "stat", "utime", "write")
OWN_CALLS = ("name_open_file", "rename_absent")


@contextmanager
def failing(number: int) -> Iterator[list[str]]:
    """The call of this number into the system finds the disk full; yields the names of the calls made."""
    made: list[str] = []

    def wrapped(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **keys: object) -> object:
            made.append(name)
            if len(made) != number:
                return real(*args, **keys)
            if name == "close":
                real(*args, **keys)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, calls in ((os, CALLS), (_kernel, OWN_CALLS)):
            for name in calls:
                patch.setattr(module, name, wrapped(name, getattr(module, name)))
        yield made


def descriptors() -> int:
    """Descriptors of files and directories; connections that other tests left idle may close at any time."""
    held = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the listing itself
            held += os.readlink(f"/proc/self/fd/{number}").startswith("/")
    return held


def streamed(m: Mount, path: str, options: WriteOptions = WriteOptions()) -> None:  # noqa: B008 - frozen
    writer = m.writer(path, options)
    try:
        writer.write(b"new")
        writer.commit()
    finally:
        writer.discard()
