"""Small local files in the caller's thread: which those are, what an interrupt leaves, and when threads take over."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import transfer
from genro_storage.backends import _localcopy, _localfile
from genro_storage.backends._localfile import HIDDEN
from genro_storage.backends.local import LocalStorage
from genro_storage.exceptions import StorageError, StorageTransferError
from genro_storage.mount import Mount
from genro_storage.transfer import turns
from genro_storage.transfer.nearby import Nearby

from .test_engine import no_threads_left
from .trees import at, files, plant

LARGE = (1 << 20) + 1


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The thread that copied each file by the driver."""
    by: dict[str, str] = {}
    copy_from = LocalStorage.copy_from

    def told(self: Any, source: Any, source_path: str, path: str, *more: Any, **how: Any) -> Any:
        by[path] = threading.current_thread().name
        return copy_from(self, source, source_path, path, *more, **how)

    monkeypatch.setattr(LocalStorage, "copy_from", told)
    return by


def planted(mount: Mount, count: int = 10) -> dict[str, bytes]:
    found = {f"src/{number % 3}/{number:03}": b"%d" % number for number in range(count)}
    for path, data in found.items():
        mount.put(path, data)
    return {path[4:]: data for path, data in found.items()}


def test_the_caller_does_what_is_small_and_threads_what_is_large(
    local: Mount, other: Mount, threads: dict[str, str]
) -> None:
    expected = planted(local) | {"large": b"x" * LARGE}
    local.put("src/large", expected["large"])
    local.mkdir("src/empty")
    events: list[tuple[str, str]] = []
    report = transfer.copy(
        at(local, "src"), at(other, "dst"), on_event=lambda event: events.append((event.kind, event.relpath))
    )
    assert files(other, "dst") == expected
    assert other.is_dir("dst/empty")
    assert (report.files_copied, report.verified_size, report.directories_created) == (11, 11, 1)
    here = threading.current_thread().name
    assert {path[4:]: by == here for path, by in threads.items()} == {path: path != "large" for path in expected}
    for path in expected:  # begun before it is done
        assert events.index(("file_start", path)) < events.index(("file_done", path))
    assert no_threads_left()


@pytest.mark.parametrize("how", [{"concurrency": 2}, {"bandwidth": "1GiB/s"}, {"cancel": threading.Event()}])
def test_threads_do_all_where_the_caller_waits_for_something_else(
    local: Mount, other: Mount, threads: dict[str, str], how: dict[str, Any]
) -> None:
    expected = planted(local)
    transfer.copy(at(local, "src"), at(other, "dst"), **how)
    assert files(other, "dst") == expected
    assert threading.current_thread().name not in threads.values()


def test_threads_take_over_where_the_disk_is_waited_for(
    local: Mount, other: Mount, threads: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = planted(local, 50)
    monkeypatch.setattr(turns, "FLUSH", 0.0)
    # A turn is one file here. One that waits between others proves nothing.
    monkeypatch.setattr(turns.Watch, "waited", lambda self, files: len(threads) in (1, 3, 4) or len(threads) >= 6)
    report = transfer.copy(at(local, "src"), at(other, "dst"))
    assert files(other, "dst") == expected
    assert report.files_copied == 50
    here = threading.current_thread().name
    assert list(threads.values()).count(here) == 6 + turns.DOUBTS - 1
    assert no_threads_left()


def test_an_interrupt_leaves_whole_files_and_a_report_that_counts_them(
    local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(local)
    write, count = _localfile.write_all, [0]

    def interrupted(fd: int, data: bytes) -> int:
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return write(fd, data)

    reports: list[Any] = []
    monkeypatch.setattr("genro_storage.transfer.call.TransferReport", _kept(reports))
    with monkeypatch.context() as patched:
        patched.setattr(_localfile, "write_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transfer.copy(at(local, "src"), at(other, "dst"))
    # The first file of a directory, which is made for it, comes by the kernel.
    assert len(files(other, "dst")) == 5 == reports[0].files_copied
    assert reports[0].cancelled
    base = Path(other.local_path("") or "")
    assert not [path for path in base.rglob("*") if path.name.startswith(HIDDEN)]
    assert no_threads_left()


def _kept(reports: list[Any]) -> Any:
    def made(*given: Any) -> Any:
        reports.append(transfer.TransferReport(*given))
        return reports[-1]

    return made


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_first_failure_stops_a_turn(
    local: Mount, other: Mount, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that only the attempt shows, and one that the plan knows before anything goes."""
    planted(local, 30)
    write = _localfile.write_all

    def refused(fd: int, data: bytes) -> int:
        if data == b"9":
            raise PermissionError(errno.EACCES, "no")
        return write(fd, data)

    if overwrite:
        monkeypatch.setattr(_localfile, "write_all", refused)
    else:
        other.put("dst/0/009", b"there")
    told: list[str] = []
    with pytest.raises(StorageTransferError) as caught:
        transfer.copy(
            at(local, "src"),
            at(other, "dst"),
            overwrite=overwrite,
            errors="stop",
            on_error=lambda node, error: told.append(node.path),
        )
    assert caught.value.report.files_failed == 1
    assert told == ["src/0/009"]
    assert len(files(other, "dst")) == caught.value.report.files_copied + (not overwrite) < 30


# --- the short way ---


def test_what_goes_wrong_on_the_short_way_goes_the_long_one(
    local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = planted(local)
    tried: list[str] = []

    def refused(*given: Any) -> None:
        tried.append(given[3])
        raise StorageError("not this way") if len(tried) % 2 else OSError("nor this")

    with monkeypatch.context() as patched:
        patched.setattr("genro_storage.backends.local.copy_small", refused)
        report = transfer.copy(at(local, "src"), at(other, "dst"), errors="report")
    assert len(tried) == 2 * len(expected)  # each by both ways, and the error is told
    assert report.files_failed == len(expected)
    assert {type(failure.error) for failure in report.failures} == {StorageError}
    assert transfer.copy(at(local, "src"), at(other, "dst")).files_copied == len(expected)
    assert files(other, "dst") == expected


def test_a_source_that_changed_since_it_was_listed_is_copied_as_it_is(
    local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(local, src__f=b"listed", src__g=b"g")
    copied = Nearby.copied

    def changed(self: Any, action: Any) -> Any:
        if action.entry.relpath == "f":
            local.put("src/f", b"and then another")
            assert copied(self, action) is None
            assert not other.exists("dst/f")
            return None
        return copied(self, action)

    monkeypatch.setattr(Nearby, "copied", changed)
    report = transfer.copy(at(local, "src"), at(other, "dst"), retries=1)
    assert files(other, "dst") == {"f": b"and then another", "g": b"g"}
    assert report.ok


def test_a_source_that_grows_while_it_is_read_is_a_conflict(
    local: Mount, other: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the short way and by the long one, until it holds still."""
    plant(local, src__f=b"abc")
    read, path, grown = os.pread, Path(local.local_path("src/f") or ""), [0]

    def growing(fd: int, size: int, offset: int) -> bytes:
        data = read(fd, size, offset)
        if data[:3] == b"abc" and grown[0] < 2:
            grown[0] += 1
            with path.open("ab") as file:
                file.write(b"d")
        return data

    monkeypatch.setattr(_localcopy.os, "pread", growing)
    report = transfer.copy(at(local, "src"), at(other, "dst"))
    assert files(other, "dst") == {"f": b"abcdd"}
    assert report.retries == 1


def test_times_are_kept_to_the_nanosecond(local: Mount, other: Mount) -> None:
    plant(local, src__a=b"makes the directory", src__f=b"abc")
    path = Path(local.local_path("src/f") or "")
    os.utime(path, ns=(1, 1_700_000_000_123_456_789))
    transfer.copy(at(local, "src"), at(other, "dst"))
    kept = Path(other.local_path("dst/f") or "").stat().st_mtime_ns
    assert kept == path.stat().st_mtime_ns
    transfer.copy(at(local, "src"), at(other, "new"), preserve=())
    assert Path(other.local_path("new/f") or "").stat().st_mtime_ns > kept


def test_keys_that_are_too_long_fail_in_our_words(local: Mount, tmp_path: Path) -> None:
    """A directory that is reached by its descriptor would take them."""
    limited = LocalStorage(LocalStorage.Options(path=str(tmp_path)))
    limited.features = replace(limited.features, max_key=80)
    plant(local, src__a=b"1")
    local.put("src/" + "n" * 40, b"2")
    target = at(Mount("limited", limited), "d" * 45)
    report = transfer.copy(at(local, "src"), target, errors="report")
    assert (report.files_copied, report.files_failed) == (1, 1)
    assert "this storage holds 80 at most" in str(report.failures[0].error)
    assert [path.name for path in (tmp_path / target.path).iterdir()] == ["a"]


def test_sleep_is_waiting_and_work_is_not() -> None:
    watch = turns.Watch()
    for _ in range(10):
        time.sleep(0.005)
    assert watch.waited(10)
    assert not watch.waited(100)  # a sleep now and then is none for every other file
    watch, until = turns.Watch(), time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    assert not watch.waited(10)
