"""When an existing file is kept: the strategies, what they ask for, the order of the questions."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage import transfer
from genro_storage.exceptions import StorageExistsError, StorageIsADirectoryError, StorageTransferError
from genro_storage.mount import Mount
from genro_storage.transfer.skips import Doubt, Skips, SkipStrategy
from genro_storage.types import Features, Stat, WriteOptions

from .stores import objects
from .trees import at, files, plant

DISK = Features(mtime_resolution=1e-9, keeps_mtime=True)
COARSE = Features(mtime_resolution=2.0, keeps_mtime=True)
STAMPS = Features(mtime_resolution=1.0)
OBJECTS = Features(real_dirs=False, mtime_resolution=1.0, keeps_mtime=True, lists_mtime=False)
LISTED = Features(real_dirs=False, mtime_resolution=1.0, keeps_mtime=True)


def judged(strategy: str, here: Stat, there: Stat, source: Features = DISK, target: Features = DISK) -> object:
    return Skips(SkipStrategy(strategy), source, target).judged(here, there)


def stat(size: int | None = 1, mtime: float | None = 100.0, **hashes: str) -> Stat:
    return Stat("f", size, mtime=mtime, hashes=hashes)


@pytest.mark.parametrize(
    ("strategy", "here", "there", "verdict"),
    [
        ("never", stat(), stat(), None),
        ("exists", stat(1, 1), stat(2, 2), "exists"),
        ("exists", stat(None, None), stat(None, None), "exists"),
        ("size", stat(5, 1), stat(5, 2), "same size"),
        ("size", stat(5), stat(6), None),
        ("size", stat(None), stat(None), None),
        ("mtime", stat(5, 1), stat(5, 1), "same size and time"),
        ("mtime", stat(5, 1), stat(5, 1.0000005), "same size and time"),
        ("mtime", stat(5, 1), stat(5, 1.01), None),
        ("mtime", stat(5, 1), stat(6, 1), None),
        ("mtime", stat(5, None), stat(5, None), None),
        ("mtime", stat(None, 1), stat(None, 1), None),
        ("newer", stat(5, 1), stat(6, 2), "newer"),
        ("newer", stat(5, 1), stat(6, 1), "newer"),
        ("newer", stat(5, 2), stat(5, 1), None),
        ("newer", stat(5, None), stat(5, 1), None),
        ("newer", stat(5, 1), stat(5, None), None),
        ("hash", stat(5, 1, md5="aa"), stat(5, 2, md5="AA"), "same content"),
        ("hash", stat(5, 1, md5="aa"), stat(5, 1, md5="ab"), None),
        ("hash", stat(5, 1, md5="aa", sha1="1"), stat(5, 1, md5="aa", sha1="2"), None),
        ("hash", stat(5, 1, md5="aa"), stat(5, 1, sha1="aa"), Doubt.CONTENT),
        ("hash", stat(5), stat(5), Doubt.CONTENT),
        ("hash", stat(5), stat(6), None),
        ("hash", stat(None), stat(None), None),
        ("hash", stat(0), stat(0), "same content"),
    ],
)
def test_strategies(strategy: str, here: Stat, there: Stat, verdict: object) -> None:
    assert judged(strategy, here, there) == verdict


@pytest.mark.parametrize(
    ("source", "target", "difference", "verdict"),
    [
        (DISK, COARSE, 1.9, "same size and time"),
        (COARSE, DISK, -2.0, "same size and time"),
        (DISK, COARSE, 2.1, None),
        (DISK, STAMPS, 0.0, "same size and time"),  # the target is not older than the source
        (DISK, STAMPS, 1e6, "same size and time"),
        (DISK, STAMPS, -0.1, None),
        (DISK, OBJECTS, 1e6, "same size and time"),
        (DISK, OBJECTS, -0.1, None),
        (OBJECTS, OBJECTS, -0.1, None),
        (OBJECTS, DISK, 0.5, "same size and time"),
        (OBJECTS, DISK, -5.0, Doubt.TIME),  # the listed time is that of the upload
        (OBJECTS, DISK, 5.0, Doubt.TIME),
        (OBJECTS, LISTED, -5.0, Doubt.TIME),
        (OBJECTS, LISTED, 5.0, "same size and time"),
        (LISTED, DISK, -5.0, None),  # it told the time of its source already
        (LISTED, LISTED, -5.0, None),
        (OBJECTS, STAMPS, -5.0, None),
    ],
)
def test_mtime_by_what_the_stores_keep(source: Features, target: Features, difference: float, verdict: object) -> None:
    assert judged("mtime", stat(5, 100.0), stat(5, 100.0 + difference), source, target) == verdict


def test_newer_is_as_fine_as_the_coarser_clock() -> None:
    """A target that cuts the fraction off is older for ever; what has another size may be another file."""
    assert judged("newer", stat(5, 100.5), stat(5, 100.0), DISK, COARSE) == "newer"
    assert judged("newer", stat(5, 100.5), stat(6, 100.0), DISK, COARSE) is None
    assert judged("newer", stat(5, 100.5), stat(5, 98.4), DISK, COARSE) is None
    assert judged("newer", stat(5, 100.5), stat(5, 100.4), DISK, DISK) is None
    assert judged("newer", stat(None, 100.5), stat(None, 100.0), DISK, COARSE) is None


def test_newer_looks_at_an_objects_own_time() -> None:
    assert judged("newer", stat(5, 200.0), stat(5, 100.0), OBJECTS, DISK) is Doubt.TIME
    assert judged("newer", stat(5, 200.0), stat(5, 300.0), OBJECTS, DISK) == "newer"
    assert judged("newer", stat(5, 200.0), stat(5, 100.0), OBJECTS, OBJECTS) is None
    assert judged("newer", stat(5, None), stat(5, 100.0), OBJECTS, DISK) is None


# --- in transfers ---


def uploaded(mount: Mount, path: str, own: float, listed: float, data: bytes = b"1") -> None:
    """An object whose listing tells another time than it carries itself."""
    store: Any = mount.backend
    store.set(path, data, mtime=own)
    store.listed_times[path] = listed


class Uploads:
    """A store whose listings tell the time of upload, as those of object stores do."""

    def __new__(cls, name: str) -> tuple[Mount, Any]:
        mount, store = objects(name)
        times: dict[str, float] = {}
        kind = type(store)

        class Listing(kind):  # type: ignore[misc, valid-type]
            listed_times = times

            def walk(self, path: str, **how: Any) -> Any:
                for page in super().walk(path, **how):
                    yield [self._as_listed(one) for one in page]

            def _as_listed(self, one: Stat) -> Stat:
                return replace(one, mtime=times.get(one.path, one.mtime), hashes={})

        store.__class__ = Listing
        store.features = replace(store.features, lists_mtime=False)
        return mount, store


@pytest.mark.parametrize("strategy", ["mtime", "newer"])
def test_one_head_where_the_listed_time_would_copy(local: Mount, strategy: str) -> None:
    """T28: a second download copies nothing, for one request per file whose listed time differs."""
    here, store = Uploads("s")
    for number in range(10):
        uploaded(here, f"d/{number}", own=1000.5 + number, listed=5000.0)
    assert transfer.copy(at(here, "d"), at(local, "t")).files_copied == 10
    store.calls.clear()
    report = transfer.copy(at(here, "d"), at(local, "t"), skip=strategy)
    assert (report.files_copied, report.files_skipped) == (0, 10)
    assert [name for name, _ in store.calls if name not in ("walk", "scan")].count("stat") <= 11
    assert store.names().count("stat") >= 10
    assert "get" not in store.names()
    uploaded(here, "d/3", own=9000.0, listed=9000.0)
    assert transfer.copy(at(here, "d"), at(local, "t"), skip=strategy).files_copied == 1


def test_facts_come_from_the_listings(memory: Mount) -> None:
    """No request for any file that is not copied."""
    for strategy in ("exists", "size", "mtime", "newer", "hash"):
        here, origin = objects("s")
        there, store = objects("t")
        for number in range(250):
            origin.set(f"d/{number:03}", b"x", mtime=1000.0)
            store.set(f"t/{number:03}", b"x", mtime=2000.0)
        report = transfer.sync(at(here, "d"), at(there, "t"), skip=strategy)
        assert report.files_skipped == 250, strategy
        for one in (origin, store):
            assert len([name for name, _ in one.calls if name not in ("walk", "scan")]) <= 2, (strategy, one.names())
            assert one.names().count("walk") <= 2
        assert report.bytes_hashed == 0


def test_hash_reads_the_sides_without_one(local: Mount, memory: Mount) -> None:
    there, store = objects("t")
    plant(local, d__same=b"12345", d__other=b"12345", d__longer=b"123456")
    plant(there, t__same=b"12345", t__other=b"54321", t__longer=b"12345")
    plant(memory, t__same=b"12345", t__other=b"54321", t__longer=b"12345")
    store.calls.clear()
    report = transfer.copy(at(local, "d"), at(there, "t"), skip="hash")
    assert (report.skip_reasons, report.files_copied, report.bytes_hashed) == ({"same content": 1}, 2, 10)
    assert "get" not in store.names()
    assert "reader" not in store.names()
    report = transfer.copy(at(local, "d"), at(memory, "t"), skip="hash")
    assert (report.skip_reasons, report.files_copied, report.bytes_hashed) == ({"same content": 1}, 2, 20)
    assert files(memory, "t") == files(local, "d")


def test_a_failing_hash_read_copies(local: Mount, memory: Mount) -> None:
    there, store = objects("t", hashes=frozenset())
    plant(local, d__a=b"1")
    store.set("t/a", b"2", hashes={})

    def refuse(name: str, path: str) -> None:
        if name == "reader":
            raise PermissionError

    store.hook = refuse
    assert transfer.copy(at(local, "d"), at(there, "t"), skip="hash").files_copied == 1
    assert store.keys["t/a"][0] == b"1"


def test_custom(local: Mount, memory: Mount) -> None:
    plant(local, d__a=b"1", d__b=b"2", d__new=b"3")
    plant(memory, t__a=b"old", t__b=b"old")
    asked: list[tuple[str, str]] = []

    def keep(source: Any, target: Any) -> bool:
        asked.append((source.path, target.path))
        return bool(source.path == "d/a")

    report = transfer.copy(at(local, "d"), at(memory, "t"), skip="custom", skip_fn=keep)
    assert asked == [("d/a", "t/a"), ("d/b", "t/b")]
    assert report.skip_reasons == {"custom": 1}
    assert files(memory, "t") == {"a": b"old", "b": b"2", "new": b"3"}


def test_a_raising_skip_fn_fails_the_entry(local: Mount, memory: Mount) -> None:
    plant(local, d__a=b"1", d__b=b"2")
    plant(memory, t__a=b"old", t__b=b"old")

    def keep(source: Any, target: Any) -> bool:
        if source.path == "d/a":
            raise KeyError("what")
        return False

    with pytest.raises(StorageTransferError, match="skip_fn raised KeyError") as caught:
        transfer.copy(at(local, "d"), at(memory, "t"), skip="custom", skip_fn=keep)
    (failure,) = caught.value.report.failures
    assert failure.relpath == "a"
    assert isinstance(failure.error.__cause__, KeyError)
    assert files(memory, "t") == {"a": b"old", "b": b"2"}


def test_functions_are_called_in_the_callers_thread_with_places(local: Mount, memory: Mount) -> None:
    import threading

    plant(local, d__a=b"1", d__x__b=b"2")
    plant(memory, t__a=b"old", t__x__b=b"2")
    threads: set[threading.Thread] = set()
    seen: list[tuple[str, str]] = []

    def choose(place: Any, relpath: str) -> bool:
        threads.add(threading.current_thread())
        seen.append((place.path, relpath))
        assert place.mount is local
        return True

    def keep(source: Any, target: Any) -> bool:
        threads.add(threading.current_thread())
        assert (source.mount, target.mount) == (local, memory)
        return False

    transfer.copy(at(local, "d"), at(memory, "t"), filter=choose, skip="custom", skip_fn=keep)
    assert seen == [("d/a", "a"), ("d/x/b", "x/b")]
    assert threads == {threading.current_thread()}


# --- the order of the questions ---


def test_the_order_for_each_entry(local: Mount, memory: Mount) -> None:
    """Kind, patterns, filter, skip, overwrite."""
    plant(local, d__kind=b"1", d__left_out=b"2", d__filtered=b"3", d__kept=b"4", d__there=b"5", d__new=b"6")
    plant(memory, t__kind__x=b"", t__left_out=b"0", t__filtered=b"0", t__kept=b"0", t__there=b"0")
    filtered: list[str] = []
    compared: list[str] = []

    def choose(place: Any, relpath: str) -> bool:
        filtered.append(relpath)
        return relpath != "filtered"

    def keep(source: Any, target: Any) -> bool:
        compared.append(source.path)
        return bool(source.path == "d/kept")

    report = transfer.copy(
        at(local, "d"),
        at(memory, "t"),
        exclude=["kind", "left_out"],
        filter=choose,
        skip="custom",
        skip_fn=keep,
        overwrite=False,
        errors="report",
    )
    assert {failure.relpath: type(failure.error) for failure in report.failures} == {
        "kind": StorageIsADirectoryError,
        "there": StorageExistsError,
    }
    assert report.skip_reasons == {"excluded": 1, "filter": 1, "custom": 1}
    assert sorted(filtered) == ["filtered", "kept", "new", "there"]
    assert sorted(compared) == ["d/kept", "d/there"]
    assert report.files_copied == 1


@pytest.mark.parametrize("strategy", ["exists", "size", "mtime", "newer", "hash"])
def test_of_a_single_file(local: Mount, memory: Mount, strategy: str) -> None:
    local.put("f", b"1", WriteOptions(mtime=1000.0))
    memory.put("g", b"1", WriteOptions(mtime=1000.0))
    for overwrite in (True, False):
        report = transfer.copy(at(local, "f"), at(memory, "g"), skip=strategy, overwrite=overwrite)
        assert (report.files_copied, report.files_skipped, report.files_total) == (0, 1, 1)
    memory.put("g", b"22", WriteOptions(mtime=900.0))
    if strategy != "exists":
        with pytest.raises(StorageExistsError, match="'m:g'"):
            transfer.copy(at(local, "f"), at(memory, "g"), skip=strategy, overwrite=False)
        assert transfer.copy(at(local, "f"), at(memory, "g"), skip=strategy).files_copied == 1
        assert memory.get("g")[0] == b"1"


def test_a_single_file_is_filtered_by_its_basename(local: Mount, memory: Mount) -> None:
    plant(local, d__x__f=b"1")
    seen: list[tuple[str, str]] = []

    def choose(place: Any, relpath: str) -> bool:
        seen.append((place.path, relpath))
        return False

    report = transfer.copy(at(local, "d/x/f"), at(memory, "g"), filter=choose)
    assert seen == [("d/x/f", "f")]
    assert (report.skip_reasons, files(memory)) == ({"filter": 1}, {})
    report = transfer.move(at(local, "d/x/f"), at(memory, "g"), filter=choose)
    assert files(local) == {"d/x/f": b"1"}


def test_a_doubtful_file_is_not_overwritten(local: Mount, memory: Mount) -> None:
    plant(local, d__same=b"1", d__other=b"2")
    plant(memory, t__same=b"1", t__other=b"3")
    report = transfer.copy(at(local, "d"), at(memory, "t"), skip="hash", overwrite=False, errors="report")
    assert report.skip_reasons == {"same content": 1}
    assert [(one.relpath, type(one.error)) for one in report.failures] == [("other", StorageExistsError)]
    assert memory.get("t/other")[0] == b"3"


def test_what_is_skipped_is_not_moved(local: Mount, memory: Mount) -> None:
    plant(local, d__same=b"1", d__new=b"2")
    plant(memory, t__same=b"1")
    report = transfer.move(at(local, "d"), at(memory, "t"), skip="hash")
    assert (report.files_copied, report.files_skipped) == (1, 1)
    assert files(local, "d") == {"same": b"1"}


def test_links_that_say_the_same(local: Mount, other: Mount, tmp_path: Any) -> None:
    plant(local, d__a=b"1", d__b=b"2")
    (tmp_path / "l/d/link").symlink_to("a")
    transfer.sync(at(local, "d"), at(other, "t"), symlinks="copy")
    report = transfer.sync(at(local, "d"), at(other, "t"), symlinks="copy")
    assert report.skip_reasons == {"same size and time": 2, "same link": 1}
    (tmp_path / "l/d/link").unlink()
    (tmp_path / "l/d/link").symlink_to("b")
    assert transfer.sync(at(local, "d"), at(other, "t"), symlinks="copy").files_copied == 1
    assert other.readlink("t/link") == "b"
