"""The suites find what they are there to find: each faulty driver fails the case that is about its fault."""

from __future__ import annotations

import fnmatch
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from genro_storage.backends import StorageBackend
from genro_storage.backends.base import BackendReader, BackendWriter, PartWriter
from genro_storage.exceptions import StorageCorruptedError
from genro_storage.mount import Mount
from genro_storage.testing import BackendSuite
from genro_storage.testing.conditions import by_put
from genro_storage.types import PLAIN, Stat, Unfinished, Version, WriteOptions
from tests import test_suites


class Faulty(StorageBackend):
    """A memory backend, to be made wrong in one point."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = test_suites.backend_of(type="memory")
        self.features = self.inner.features

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset({"mkdir", "rmdir"})

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        return self.inner.stat(path, version=version)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        return self.inner.scan(path, after=after, limit=limit, facts=facts)

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        return self.inner.reader(path, start, end, version=version, if_match=if_match)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return self.inner.writer(path, options)

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self.inner.delete(path, version=version, if_match=if_match)

    def mkdir(self, path: str) -> None:
        self.inner.mkdir(path)

    def rmdir(self, path: str) -> None:
        self.inner.rmdir(path)


class DeletesByGlob(Faulty):
    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        above = path.rpartition("/")[0]
        names = [entry.path for page in self.scan(above) for entry in page]
        for name in fnmatch.filter(names, path) or [path]:
            super().delete(name)


class DeletesByPrefix(Faulty):
    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        super().delete(path)
        above = path.rpartition("/")[0]
        for page in self.scan(above):
            for entry in page:
                if entry.path.startswith(path) and not entry.is_dir:
                    super().delete(entry.path)


class ListsItself(Faulty):
    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        for page in super().scan(path, after=after, limit=limit, facts=facts):
            yield [Stat(path, is_dir=True), *page] if path else page


class ListsOnePage(Faulty):
    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        for page in super().scan(path, after=after, limit=limit, facts=facts):
            yield page[:1000]
            return


class ListsMissingAsEmpty(Faulty):
    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        try:
            yield from super().scan(path, after=after, limit=limit, facts=facts)
        except FileNotFoundError:
            yield []


class FoldsNames(Faulty):
    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return super().writer(unicodedata.normalize("NFC", path), options)


class IgnoresTheEnd(Faulty):
    def reader(self, path: str, start: int = 0, end: int | None = None, **how: str | None) -> BackendReader:  # type: ignore[override]
        return super().reader(path, start, None, **how)  # type: ignore[arg-type]


class _Wrapped:
    def __init__(self, inner: BackendWriter) -> None:
        self.inner = inner

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.inner.write(data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        return self.inner.commit(hashes)

    def discard(self) -> None:
        self.inner.discard()


class _CommitsOnDiscard(_Wrapped):
    committed = False

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self.committed = True
        return super().commit(hashes)

    def discard(self) -> None:
        if not self.committed:
            self.commit()


class CommitsOnDiscard(Faulty):
    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return _CommitsOnDiscard(super().writer(path, options))


class _KeepsBuffers(_Wrapped):
    def __init__(self, inner: BackendWriter) -> None:
        super().__init__(inner)
        self.parts: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.parts.append(data)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        for part in self.parts:
            self.inner.write(part)
        return super().commit(hashes)


class KeepsBuffers(Faulty):
    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return _KeepsBuffers(super().writer(path, options))


class TruncatesFirst(Faulty):
    """Opening the target is what destroys it."""

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        self.inner.put(path, b"")
        return super().writer(path, options)


class ForgetsTheSize(Faulty):
    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return super().writer(path, WriteOptions(if_absent=options.if_absent, if_match=options.if_match))


class JudgesEarly(Faulty):
    """Looks, and then acts: another may have come in between."""

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        if options.if_absent:
            try:
                self.stat(path)
            except FileNotFoundError:
                pass
            else:
                raise FileExistsError(path)
        return super().writer(path)


class ReplacesDirectories(Faulty):
    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        try:
            for page in list(self.inner.scan(path)):
                for entry in page:
                    self.inner.delete(entry.path)
            self.inner.rmdir(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return super().writer(path, options)


class StampsNow(Faulty):
    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return super().writer(path)


class LooksAtTheUpload(Faulty):
    """The quick look tells the storage's own time in place of the one that was kept."""

    def look(self, path: str, *, version: str | None = None) -> Stat:
        return replace(self.stat(path, version=version), mtime=1.0)


class DoublesLastBytes(Faulty):
    """Stores wrong bytes of the right number."""

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        return _Garbles(super().writer(path, options))


class _Garbles(_Wrapped):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.inner.write(bytes(data).replace(b"\n", b" "))


class Keeping(Faulty):
    """The same with versions, metadata and tags."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = test_suites.backend_of(type="memory", versioned=True, metadata=True)
        self.features = self.inner.features

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities | {"versions", "set_metadata", "get_tags", "set_tags"}

    def versions(self, path: str) -> Iterator[Version]:
        return self.inner.versions(path)

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        self.inner.set_metadata(path, metadata)

    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        return self.inner.get_tags(path, version=version)

    def set_tags(self, path: str, tags: Mapping[str, str]) -> None:
        self.inner.set_tags(path, tags)


class ListsVersionsByPrefix(Keeping):
    def versions(self, path: str) -> Iterator[Version]:
        for page in self.inner.walk(""):
            for entry in page:
                if entry.path.startswith(path):
                    yield from self.inner.versions(entry.path)


class ListsVersionsBySize(Keeping):
    """Any order but that of the writes."""

    def versions(self, path: str) -> Iterator[Version]:
        return iter(sorted(self.inner.versions(path), key=lambda one: one.size or 0))


class DeletesTheNewest(Keeping):
    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        self.inner.delete(path, if_match=if_match)


class ReadsTheNewest(Keeping):
    def stat(self, path: str, *, version: str | None = None) -> Stat:
        self.inner.stat(path, version=version)
        return self.inner.stat(path)


class AddsMetadata(Keeping):
    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        self.inner.set_metadata(path, {**(self.inner.stat(path).metadata or {}), **metadata})


class RewritesForMetadata(Keeping):
    """And loses the tags."""

    def set_metadata(self, path: str, metadata: Mapping[str, str]) -> None:
        data, stat = self.inner.get(path)
        self.inner.put(path, data, WriteOptions(metadata=metadata, content_type=stat.content_type, mtime=stat.mtime))


class TagsOfTheNewest(Keeping):
    def get_tags(self, path: str, *, version: str | None = None) -> dict[str, str]:
        return self.inner.get_tags(path)


KEPT: list[tuple[type[Keeping], str]] = [
    (ListsVersionsByPrefix, "test_versions_are_of_exactly_this_key"),
    (ListsVersionsBySize, "test_versions_keep_their_order"),
    (DeletesTheNewest, "test_a_version_is_deleted"),
    (DeletesTheNewest, "test_a_delete_marker_is_removed"),
    (ReadsTheNewest, "test_a_version_is_read"),
    (AddsMetadata, "test_set_metadata"),
    (RewritesForMetadata, "test_set_metadata"),
    (TagsOfTheNewest, "test_tags_of_a_version"),
]


class Staging(Faulty):
    """With staged writes."""

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities | {"parts", "unfinished"}

    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> PartWriter:
        return self.inner.parts(path, options, **how)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return self.inner.unfinished(path, older_than=older_than)


class _Spoiled:
    """A part writer to be made wrong in one point."""

    def __init__(self, inner: PartWriter, name: str, method: Any) -> None:
        self._inner = inner
        setattr(self, name, method)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class JoinsInOrderOfArrival(Staging):
    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> Any:
        writer = super().parts(path, options, **how)
        came: list[bytes] = []

        def put(offset: int, data: Any) -> str:
            came.append(bytes(data))
            return writer.put(offset, data)

        spoiled = _Spoiled(writer, "put", put)
        spoiled.commit = lambda hashes={}: self.inner.put(path, b"".join(came), options)
        return spoiled


class WritesInPlace(Staging):
    """What was there goes with the first part."""

    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> Any:
        writer = super().parts(path, options, **how)

        def put(offset: int, data: Any) -> str:
            self.inner.put(path, bytes(data))
            return writer.put(offset, data)

        return _Spoiled(writer, "put", put)


class FillsHolesWithNothing(Staging):
    """Whatever has not come is left out."""

    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> Any:
        writer = super().parts(path, options, **how)
        came: dict[int, bytes] = {}

        def put(offset: int, data: Any) -> str:
            came[offset] = bytes(data)
            return writer.put(offset, data)

        spoiled = _Spoiled(writer, "put", put)
        spoiled.commit = lambda hashes={}: self.inner.put(path, b"".join(came[at] for at in sorted(came)))
        return spoiled


class JudgesPartsEarly(Staging):
    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> Any:
        if options.if_absent and self.inner.has(path):
            raise FileExistsError(path)
        return super().parts(path, **how)


class BelievesReceipts(Staging):
    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> Any:
        writer = super().parts(path, options, **how)
        return _Spoiled(writer, "held", frozenset(how.get("receipts") or ()))


class DropsNothing(Staging):
    """What is discarded stays staged for ever."""

    def parts(self, path: str, options: WriteOptions = PLAIN, **how: Any) -> Any:
        return _Spoiled(super().parts(path, options, **how), "discard", lambda: None)


class FindsByPrefix(Staging):
    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        found = self.inner.unfinished("", older_than=older_than)
        return (one for one in found if one.path.startswith(path))


class ForgetsTheAge(Staging):
    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return super().unfinished(path, older_than=-60)


STAGED: list[tuple[type[Staging], str, dict[str, object]]] = [
    (JoinsInOrderOfArrival, "test_parts_come_in_any_order", {}),
    (JoinsInOrderOfArrival, "test_a_part_may_be_put_again", {}),
    (WritesInPlace, "test_parts_appear_in_one_step", {}),
    (FillsHolesWithNothing, "test_a_missing_part_is_an_error", {"missing": 1, "announced": True}),
    (JudgesPartsEarly, "test_parts_if_absent", {}),
    (JudgesPartsEarly, "test_parts_if_match", {}),
    (BelievesReceipts, "test_a_receipt_that_is_not_true_does_not_count", {}),
    (DropsNothing, "test_discarded_parts_are_gone", {}),
    (DropsNothing, "test_unfinished_writes_are_found_and_discarded", {}),
    (FindsByPrefix, "test_unfinished_writes_are_found_and_discarded", {}),
    (ForgetsTheAge, "test_unfinished_writes_are_found_and_discarded", {}),
]


CAUGHT: list[tuple[type[Faulty], str, dict[str, object]]] = [
    (DeletesByGlob, "test_delete_takes_exactly_one", {"pattern": "data*.txt"}),
    (DeletesByPrefix, "test_delete_is_exact", {}),
    (ListsItself, "test_one_level", {}),
    (ListsOnePage, "test_many_entries", {}),
    (ListsMissingAsEmpty, "test_missing_and_file", {}),
    (FoldsNames, "test_names_are_kept_exactly", {}),
    (IgnoresTheEnd, "test_ranges", {"start": 3, "end": 7}),
    (CommitsOnDiscard, "test_discard", {"size": 10}),
    (KeepsBuffers, "test_buffers_are_taken_over", {}),
    (TruncatesFirst, "test_old_bytes_stay_until_commit", {"size": 10}),
    (TruncatesFirst, "test_nothing_is_visible_before_commit", {}),
    (ForgetsTheSize, "test_announced_size_is_held", {"announced": 10, "given": 9}),
    (JudgesEarly, "test_if_absent_is_judged_at_commit", {}),
    (JudgesEarly, "test_if_match", {"write": by_put}),
    (ReplacesDirectories, "test_a_directory_is_not_overwritten", {"write": by_put}),
    (StampsNow, "test_mtime_is_kept", {"write": by_put}),
    (LooksAtTheUpload, "test_a_look_tells_what_stat_tells", {}),
    (DoublesLastBytes, "test_many_payloads", {}),
]


def run(case: str, backend: StorageBackend, given: Mapping[str, object]) -> None:
    """One case of the suite, its fixtures made by hand."""
    mount = Mount("m", backend)
    fixtures: dict[str, object] = {"backend": backend, "mount": mount, **given}
    method = getattr(BackendSuite, case)
    names = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    if "tree" in names:
        fixtures["tree"] = BackendSuite.tree.__wrapped__(BackendSuite(), mount)  # type: ignore[attr-defined]
    method(BackendSuite(), **{name: fixtures[name] for name in names})


@pytest.mark.parametrize(("driver", "case", "given"), CAUGHT)
def test_a_fault_is_caught(driver: type[Faulty], case: str, given: dict[str, object]) -> None:
    """The right driver passes the case, the wrong one fails it."""
    run(case, Faulty(), given)
    with pytest.raises((AssertionError, pytest.fail.Exception, OSError, StorageCorruptedError)):
        run(case, driver(), given)


@pytest.mark.parametrize(("driver", "case", "given"), STAGED)
def test_a_fault_in_staged_writes_is_caught(driver: type[Staging], case: str, given: dict[str, object]) -> None:
    run(case, Staging(), given)
    with pytest.raises((AssertionError, pytest.fail.Exception, OSError)):
        run(case, driver(), given)


@pytest.mark.parametrize(("driver", "case"), KEPT)
def test_a_fault_in_what_is_kept_is_caught(driver: type[Keeping], case: str) -> None:
    run(case, Keeping(), {})
    with pytest.raises((AssertionError, pytest.fail.Exception, OSError)):
        run(case, driver(), {})


def test_an_undeclared_lack_is_told() -> None:
    with pytest.raises(AssertionError, match=r"declare: lacks = \[.*'copy_from'"):
        run("test_lacks_is_declared", Faulty(), {})


def test_cases_come_and_go_with_what_is_lacking() -> None:
    class Lacking(BackendSuite):
        lacks = frozenset({"mkdir"})

    class Having(Lacking):
        lacks = frozenset({"edit"})

    assert Lacking.test_mkdir is None
    assert Having.test_mkdir is BackendSuite.test_mkdir
    assert Having.test_edit is None
    assert Lacking.test_edit is BackendSuite.test_edit
