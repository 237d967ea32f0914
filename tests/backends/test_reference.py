"""Memory is the reference: whatever is done to it and to a directory gives the same answers, errors and tree."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.exceptions import StorageError
from genro_storage.mount import Mount
from genro_storage.types import WriteOptions

PATHS = st.sampled_from(["", "a", "b", "a/x", "a/y", "a/x/z", "b/x", "a-", "b/x/y/z"])
DATA = st.binary(max_size=4)
POSITION = st.integers(-3, 5)


def edited(m: Mount, path: str, mode: str, data: bytes) -> bytes:
    editor = m.guard.call("edit", path, m.backend.edit, path, mode)
    editor.write(data)
    position = b"%d" % editor.tell()
    editor.close()
    return position


def streamed(m: Mount, path: str, data: bytes, absent: bool) -> object:
    writer = m.writer(path, WriteOptions(if_absent=absent, size=len(data)))
    try:
        writer.write(data)
        return writer.commit().size
    finally:
        writer.discard()


def put(m: Mount, path: str, data: bytes, absent: bool) -> object:
    return m.put(path, data, WriteOptions(if_absent=absent)).size


def put_match(m: Mount, path: str, data: bytes, right: bool) -> object:
    etag = m.stat(path).etag if m.is_file(path) else None
    return m.put(path, data, WriteOptions(if_match=etag if right and etag else "other")).size


def rename(m: Mount, path: str, target: str, absent: bool) -> object:
    return m.rename_from(m, path, target, WriteOptions(if_absent=absent)).is_dir


def copied(m: Mount, path: str, target: str, absent: bool) -> object:
    return m.copy_from(m, path, target, WriteOptions(if_absent=absent)).size


def listed(m: Mount, path: str) -> object:
    return sorted((entry.path, entry.is_dir, entry.size) for page in m.scan(path) for entry in page)


def verb(function: Callable[..., object], *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.tuples(st.just(function), *arguments)


STEPS = st.one_of(
    verb(put, PATHS, DATA, st.booleans()),
    verb(put_match, PATHS, DATA, st.booleans()),
    verb(streamed, PATHS, DATA, st.booleans()),
    verb(edited, PATHS, st.sampled_from(["r+", "a", "a+"]), DATA),
    verb(rename, PATHS, PATHS, st.booleans()),
    verb(copied, PATHS, PATHS, st.booleans()),
    verb(lambda m, path: m.get(path)[0], PATHS),
    verb(lambda m, path, start, end: m.get(path, start, end)[0], PATHS, POSITION, st.none() | st.integers(0, 5)),
    verb(lambda m, path, start: m.reader(path, start).read(), PATHS, POSITION),
    verb(lambda m, path: (m.stat(path).is_dir, m.stat(path).size), PATHS),
    verb(lambda m, path: (m.exists(path), m.is_file(path), m.is_dir(path)), PATHS),
    verb(listed, PATHS),
    verb(lambda m, path: m.delete(path), PATHS),
    verb(lambda m, path, parents, ok: m.mkdir(path, parents=parents, exist_ok=ok), PATHS, st.booleans(), st.booleans()),
    verb(lambda m, path: m.rmdir(path), PATHS),
    verb(lambda m, path: m.delete_tree(path), PATHS),
)


def told(m: Mount, step: tuple[Callable[..., object], ...]) -> object:
    try:
        return step[0](m, *step[1:])
    except StorageError as error:
        return type(error).__name__


def tree(m: Mount) -> object:
    return [(e.path, None if e.is_dir else m.get(e.path)[0]) for page in m.walk("") for e in page]


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=12))
def test_memory_and_a_directory_agree(steps: list[tuple[Callable[..., object], ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory = Mount("m", MemoryBackend(MemoryOptions()))
        local = Mount("m", LocalStorage(LocalOptions(path=folder)))
        for step in steps:
            assert told(memory, step) == told(local, step), step
            assert tree(memory) == tree(local), step
