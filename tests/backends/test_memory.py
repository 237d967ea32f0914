"""The memory backend: the suite of all backends, and whose bytes are whose."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage import StorageManager
from genro_storage.backends.base import order
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.backends.options import Context
from genro_storage.exceptions import StorageConflictError, StorageError, StorageUnavailableError, UnsupportedOperation
from genro_storage.mount import Mount
from genro_storage.paths import normalise
from genro_storage.testing import OBJECT_STORE, BackendSuite
from genro_storage.types import WriteOptions


def storage(store: str = "", path: str = "", context: Context = Context("m", "manager")) -> MemoryBackend:  # noqa: B008
    return MemoryBackend(MemoryOptions(store=store, path=path), context)


class TestMemory(BackendSuite):
    lacks = OBJECT_STORE | {
        *("free_space", "hashes", "implied_dirs", "keeps_mode", "metadata", "readlink", "surrogates"),
        *("set_mode", "symlink"),
    }

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend(MemoryOptions())


class TestMemoryWithAll(BackendSuite):
    """With both flags it is the reference of what object stores can, too."""

    lacks = TestMemory.lacks - OBJECT_STORE - {"metadata"} | {"public_url", "sign"}

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend(MemoryOptions(versioned=True, metadata=True))


def put(backend: MemoryBackend, path: str = "f", data: bytes = b"1") -> MemoryBackend:
    backend.put(path, data)
    return backend


def has(backend: MemoryBackend, path: str = "f") -> bool:
    return Mount("m", backend).exists(path)


# --- whose bytes ---


def test_private_by_default() -> None:
    """R38: a store belongs to one mount name of one manager."""
    mine = put(storage(context=Context("m", "one")))
    assert has(storage(context=Context("m", "one"))), "kept across reconfigure"
    assert not has(storage(context=Context("m", "two")))
    assert not has(storage(context=Context("n", "one")))
    assert not has(MemoryBackend(MemoryOptions()))
    assert storage(context=Context("m", "one")).storage_id == mine.storage_id
    assert storage(context=Context("n", "one")).storage_id != mine.storage_id


def test_private_stores_are_freed() -> None:
    """With the last backend that holds it, the bytes are gone."""
    backend = put(storage(context=Context("m", "freed")))
    gone = weakref.ref(backend._store)
    backend.close()
    assert gone() is None
    assert not has(storage(context=Context("m", "freed")))
    with pytest.raises(StorageUnavailableError, match="gone"):
        backend.get("f")


def test_shared_by_name() -> None:
    one = put(storage("shared-name", context=Context("a", "1")))
    two = storage("shared-name", path="d", context=Context("b", "2"))
    assert has(one)
    assert not has(two)
    put(two, "g")
    assert one.get("d/g")[0] == b"1"
    assert one.storage_id == two.storage_id
    assert one.native_path("d/g") == two.native_path("g")
    one.close()
    two.close()
    assert has(storage("shared-name")), "as long as the process lives"


def test_managers() -> None:
    entries = [{"name": "m", "type": "memory"}, {"name": "s", "type": "memory", "store": "of-managers"}]
    with StorageManager(entries) as one, StorageManager(entries) as two:
        for mount in ("m", "s"):
            one.node(f"{mount}:f").write_text("hello")
        assert not two.node("m:f").exists
        assert two.node("s:f").read_text() == "hello"
        one.configure(entries)
        one.configure([{"name": "m", "type": "memory", "permissions": "readonly"}])
        assert one.node("m:f").read_text() == "hello"
        one.delete_mount("m")
        one.configure(entries)
        assert not one.node("m:f").exists


def test_pickled_in_this_process_and_its_forks() -> None:
    """The same bytes; elsewhere every use says that they are not there, at once and without retries."""
    backend = put(storage(context=Context("m", "pickled")))
    options = MemoryOptions(**backend.pickle_options())
    again = MemoryBackend(options, Context("other", "other"))
    assert has(again)
    assert again.storage_id == backend.storage_id
    assert again.pickle_options() == backend.pickle_options()
    child = os.fork()
    if child == 0:
        os._exit(17 if has(MemoryBackend(options)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    elsewhere = Mount("m", MemoryBackend(MemoryOptions(store="@another-process/mount:pickled:m")))
    for verb in (lambda: elsewhere.get("f"), lambda: elsewhere.put("f", b""), lambda: list(elsewhere.scan(""))):
        with pytest.raises(StorageUnavailableError, match="in the process that made it") as caught:
            verb()
        assert not caught.value.retryable


def test_nodes_pickle() -> None:
    with StorageManager([{"name": "m", "type": "memory"}]) as manager:
        node = manager.node("m:f")
        node.write_text("hello")
        data = pickle.dumps(node)
        assert pickle.loads(data) == node
        code = f"import pickle; print(pickle.loads({data!r}).read_text())"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert told.returncode == 1
        assert "StorageUnavailableError" in told.stderr.splitlines()[-1]
        assert "m:f" in told.stderr.splitlines()[-1]


# --- threads and processes ---


def test_a_fork_while_others_write() -> None:
    """The child finds a whole tree and no lock that nobody will release."""
    backend = MemoryBackend(MemoryOptions())
    stop = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            backend.put(f"{name}{number % 7}/f", b"%d" % number)
            backend.rename_from(backend, f"{name}{number % 7}/f", "moved")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    ends = []
    for _ in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(150)
            backend.put("own", b"1")
            listed = [entry.path for page in backend.walk("") for entry in page]
            os._exit(0 if listed == sorted(listed) and "own" in listed else 1)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    assert ends == [0] * 20
    assert not has(backend, "own")


def test_a_writer_does_not_outlive_a_fork() -> None:
    backend = MemoryBackend(MemoryOptions())
    writer = backend.writer("f")
    writer.write(b"parent")
    child = os.fork()
    if child == 0:
        refused = 0
        for verb in (lambda: writer.write(b"child"), lambda: writer.commit()):
            try:
                verb()
            except StorageError:
                refused += 1
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    writer.commit()
    assert backend.get("f")[0] == b"parent"


def test_if_match_loses_no_update() -> None:
    backend = put(MemoryBackend(MemoryOptions()), data=b"0")

    def increment() -> None:
        for _ in range(50):
            while True:
                data, stat = backend.get("f")
                try:
                    backend.put("f", b"%d" % (int(data) + 1), WriteOptions(if_match=stat.etag))
                except StorageConflictError:
                    continue
                break

    threads = [threading.Thread(target=increment) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.get("f")[0] == b"400"


def test_appends_of_many_editors_are_all_kept() -> None:
    backend = MemoryBackend(MemoryOptions())

    def append() -> None:
        editor = backend.edit("log", "a")
        for _ in range(200):
            editor.write(b"line\n")
        editor.close()

    threads = [threading.Thread(target=append) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.get("log")[0] == b"line\n" * 1600


# --- what is kept ---


def test_readers_keep_what_they_opened() -> None:
    """R18: neither a replacement nor an edit in place reaches an open reader; an editor stays with its own file."""
    backend = put(MemoryBackend(MemoryOptions()), data=b"0123456789")
    reader = backend.reader("f", 2)
    assert reader.read(2) == b"23"
    editor = backend.edit("f", "r+")
    editor.write(b"xxxxxxxx")
    assert reader.read(2) == b"45"
    assert backend.get("f")[0] == b"xxxxxxxx89"
    again = backend.reader("f")
    editor.truncate(3)
    assert again.read() == b"xxxxxxxx89"
    assert backend.get("f")[0] == b"xxx"
    put(backend, data=b"replaced")
    editor.write(b"late")
    assert backend.get("f")[0] == b"replaced"
    assert reader.read() == b"6789"


def test_an_editor_beyond_the_end() -> None:
    backend = put(MemoryBackend(MemoryOptions()), data=b"ab")
    editor = backend.edit("f", "r+")
    editor.seek(4)
    editor.write(b"c")
    editor.seek(-1, 2)
    assert editor.tell() == 4
    with pytest.raises(ValueError, match="before the beginning"):
        editor.seek(-5)
    editor.truncate(7)
    assert backend.get("f")[0] == b"ab\0\0c\0\0"
    editor.close()
    with pytest.raises(ValueError, match="closed"):
        editor.write(b"x")


def test_copies_share_bytes_and_keep_the_type() -> None:
    backend, other = MemoryBackend(MemoryOptions()), MemoryBackend(MemoryOptions())
    backend.put("f", b"x" * 1000, WriteOptions(content_type="text/x-own", mtime=5.0))
    copied = other.copy_from(backend, "f", "d/g", WriteOptions(mtime=7.0))
    assert (copied.content_type, copied.mtime) == ("text/x-own", 7.0)
    assert other.get("d/g")[0] is backend.get("f")[0]
    assert other.copy_from(backend, "f", "h", WriteOptions(content_type="text/y")).content_type == "text/y"
    moved = other.rename_from(backend, "f", "moved")
    assert (moved.content_type, moved.mtime, has(backend)) == ("text/x-own", 5.0, False)


@pytest.mark.parametrize(
    ("source", "target", "number"),
    [
        ("d", "d/below", errno.EINVAL),
        ("d", "d/e/f", errno.EINVAL),
        ("d", "full", errno.ENOTEMPTY),
        ("d", "file", errno.ENOTDIR),
        ("file", "d", errno.EISDIR),
        ("", "x", errno.EINVAL),
    ],
)
def test_renames_as_the_system_refuses_them(source: str, target: str, number: int) -> None:
    """R13 and more: nothing changes, nothing is made on the way."""
    backend = MemoryBackend(MemoryOptions())
    for path in ("d/x", "full/y", "file"):
        put(backend, path)
    before = list(backend.walk(""))
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        backend.rename_from(backend, source, target)
    assert caught.value.errno == number
    assert list(backend.walk("")) == before
    assert backend.rename_from(backend, "d", "d").is_dir, "onto itself: no change"
    backend.mkdir("empty")
    backend.rename_from(backend, "d", "empty")
    assert has(backend, "empty/x")


# --- versions ---


def versioned(**keys: Any) -> MemoryBackend:
    return MemoryBackend(MemoryOptions(versioned=True, **keys))


def history(backend: MemoryBackend, path: str = "f") -> list[bytes | None]:
    """The bytes of every version, newest first; None for a deletion."""
    return [
        None if one.is_delete_marker else backend.get(path, version=one.version_id)[0] for one in backend.versions(path)
    ]


def test_edits_make_versions() -> None:
    """What somebody has read under an id never changes; what nobody has seen makes no version of its own."""
    backend = put(versioned(), data=b"0123")
    editor = backend.edit("f", "r+")
    editor.write(b"a")
    editor.write(b"b")
    assert history(backend) == [b"ab23", b"0123"]
    editor.write(b"c")
    assert history(backend) == [b"abc3", b"ab23", b"0123"]
    put(backend, data=b"new")
    editor.write(b"d")
    assert history(backend) == [b"new", b"abc3", b"ab23", b"0123"]


def test_renames_leave_deletions() -> None:
    """Also of every file below a directory; the versions stay with the name."""
    backend = versioned()
    for data in (b"1", b"2"):
        put(backend, "d/e/f", data)
    put(backend, "g", b"old")
    backend.rename_from(backend, "d", "moved")
    assert (history(backend, "d/e/f"), history(backend, "moved/e/f")) == ([None, b"2", b"1"], [b"2"])
    backend.rename_from(backend, "moved/e/f", "g")
    assert history(backend, "g") == [b"2", b"old"]
    assert history(backend, "moved/e/f") == [None, b"2"]
    ids = [one.version_id for path in ("d/e/f", "moved/e/f", "g") for one in backend.versions(path)]
    assert len(set(ids)) == len(ids)


def test_a_deletion_taken_back_makes_its_directories() -> None:
    backend = put(versioned(), "d/f", b"1")
    backend.delete("d/f")
    backend.rmdir("d")
    (deletion, _) = backend.versions("d/f")
    put(backend, "d", b"in the way")
    with pytest.raises(NotADirectoryError):
        backend.delete("d/f", version=deletion.version_id)
    assert history(backend, "d/f") == [None, b"1"]
    backend.delete("d")
    backend.mkdir("d")
    backend.mkdir("d/f")
    with pytest.raises(IsADirectoryError):
        backend.delete("d/f", version=deletion.version_id)
    backend.rmdir("d/f")
    backend.rmdir("d")
    backend.delete("d/f", version=deletion.version_id)
    assert (history(backend, "d/f"), backend.get("d/f")[0]) == ([b"1"], b"1")


def test_nothing_is_kept_of_what_is_erased() -> None:
    backend = put(put(versioned()), data=b"2")
    backend.delete("f")
    for one in list(backend.versions("f")):
        backend.delete("f", version=one.version_id)
    assert backend._store.past == {}
    assert list(backend.walk("")) == [[]]


def test_a_version_is_read_as_a_mapping_too() -> None:
    backend = MemoryBackend(MemoryOptions(versioned=True))
    backend.put("f", b"12")
    (version,) = backend.versions("f")
    assert (version["size"], version["is_latest"], version["version_id"]) == (2, True, version.version_id)
    assert "etag" in version
    assert "nothing" not in version
    for name in ("nothing", "__class__"):
        with pytest.raises(KeyError):
            version[name]


def test_versions_only_where_asked_for() -> None:
    """A store is versioned for all its mounts as soon as it is for one; others see no versions."""
    plain = MemoryBackend(MemoryOptions(store="half-versioned"))
    put(plain, data=b"1")
    both = versioned(store="half-versioned", metadata=True)
    put(plain, data=b"2")
    assert history(both) == [b"2", b"1"]
    told = both.put("f", b"3", WriteOptions(metadata={"Key": "v"}, tags={"t": "u"}))
    assert (told.metadata, told.version_id) == ({"key": "v"}, next(both.versions("f")).version_id)
    assert (plain.stat("f").metadata, plain.stat("f").version_id) == (None, None)
    assert not plain.abilities & {"versions", "set_metadata", "get_tags", "set_tags"}
    for refused in (plain.stat, plain.get, plain.delete):
        with pytest.raises(UnsupportedOperation, match="'versioned'"):
            refused("f", version=told.version_id)
    assert put(put(MemoryBackend(MemoryOptions())))._store.past == {}


def test_set_metadata_is_a_version() -> None:
    backend = put(versioned(metadata=True), data=b"1")
    backend.set_metadata("f", {"Key": "v"})
    new, old = backend.versions("f")
    assert (backend.stat("f").metadata, backend.stat("f", version=old.version_id).metadata) == ({"key": "v"}, {})
    backend.set_tags("f", {"t": "u"})
    assert next(backend.versions("f")) == new


# --- listings ---


@given(
    st.lists(st.text(st.sampled_from("a-./0é\U0001f600"), min_size=1, max_size=6), max_size=12),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_walks_go_on_where_they_stopped(texts: list[str], stop: int, limit: int) -> None:
    """In the bytewise order of all paths, from any entry on, as many as asked for."""
    backend = Mount("m", MemoryBackend(MemoryOptions()))
    for text in texts:
        try:
            backend.put(normalise(text), b"")
        except (StorageError, OSError):
            continue  # not a path, or a file is where a directory should be
    listed = [entry for page in backend.backend.walk("") for entry in page]
    assert listed == sorted(listed, key=order)
    after = order(listed[stop]).decode() if stop < len(listed) else ""
    rest = [entry for page in backend.backend.walk("", after=after, limit=limit) for entry in page]
    assert rest == (listed[stop + 1 :] if after else listed)[:limit]


def test_many_entries_are_quick() -> None:
    """A hundred thousand files in one directory: an insertion costs the same as the first."""
    backend = MemoryBackend(MemoryOptions())

    def fill(start: int) -> float:
        begin = time.thread_time()
        for number in range(start, start + 10_000):
            backend.put(f"d/{number}", b"")
        return time.thread_time() - begin

    first = min(fill(0), fill(10_000))
    for start in range(20_000, 80_000, 10_000):
        fill(start)
    last = min(fill(80_000), fill(90_000))
    assert last < 5 * first
    assert sum(len(page) for page in backend.scan("d")) == 100_000
    assert max(len(page) for page in backend.scan("d")) <= 1000
