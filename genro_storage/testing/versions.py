"""The cases about what object stores keep beside the newest bytes: versions, metadata, tags, signed requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from email.message import Message
from urllib.parse import unquote
from urllib.request import Request, urlopen

import pytest

from ..backends.base import StorageBackend
from ..exceptions import StorageError, StorageNotFoundError
from ..mount import Mount
from ..types import SignedRequest, SignOptions, Version, WriteOptions
from .conditions import Put, both_ways
from .reading import Cases, payload
from .suite import needs

TAGS = {"team": "storage", "cost centre": "a/b+c:d@e_f.g-h=1", "empty": ""}


def written(mount: Mount, path: str, *contents: bytes) -> list[Version]:
    """Puts one content after the other; what is listed then, newest first."""
    for content in contents:
        mount.put(path, content)
    return list(mount.versions(path))


def contents(mount: Mount, path: str) -> list[bytes]:
    """The bytes of every version that has some, newest first."""
    return [mount.get(path, version=one.version_id)[0] for one in mount.versions(path) if not one.is_delete_marker]


def refused(mount: Mount, version: str) -> None:
    """No verb finds the file "f" in this version."""
    for ask in (mount.stat, mount.get, lambda path, version: mount.reader(path, version=version).read()):
        with pytest.raises(StorageNotFoundError):
            ask("f", version=version)
    assert not mount.exists("f", version=version)


class Versions(Cases):
    @needs("versions")
    def test_versions_keep_their_order(self, mount: Mount) -> None:
        """R07: written within one second they are in the order of the writes; sizes and the newest are told."""
        begun = time.time()
        found = written(mount, "d/f", b"1", b"22", b"333", b"22")
        assert [one.size for one in found] == [2, 3, 2, 1]
        assert [one.is_latest for one in found] == [True, False, False, False]
        assert contents(mount, "d/f") == [b"22", b"333", b"22", b"1"]
        assert len({one.version_id for one in found}) == 4
        times = [one.last_modified for one in found]
        assert all(begun - 3 <= (moment or begun) <= time.time() + 3 for moment in times)

    @needs("versions", "own_versions")
    def test_facts_and_writes_tell_their_version(self, mount: Mount) -> None:
        found = written(mount, "d/f", b"1", b"22")
        assert mount.stat("d/f").version_id == mount.get("d/f")[1].version_id == found[0].version_id
        assert mount.put("d/f", b"5").version_id == next(mount.versions("d/f")).version_id

    @needs("versions")
    def test_versions_are_of_exactly_this_key(self, backend: StorageBackend, mount: Mount) -> None:
        """R08: neither of a longer name nor of what is below; of nothing and of a directory there are none."""
        mine = written(mount, "d/f", b"1", b"2")
        for other in ("d/f2", "d/f.bak", "d/fx/y", "d/F", "e/f", "d/f*"):
            written(mount, other, b"other", b"others")
        if not backend.features.real_dirs:
            mount.put("d/f/below", b"below")
        assert list(mount.versions("d/f")) == mine
        assert contents(mount, "d/f") == [b"2", b"1"]
        for none in ("d", "absent", "d/f3", "no/such"):
            assert list(mount.versions(none)) == []

    @needs("versions")
    def test_a_version_is_read(self, mount: Mount) -> None:
        """R06: facts, ranges and streams are those of the version."""
        mount.put("f", b"0123456789", WriteOptions(content_type="text/x-old"))
        mount.put("f", b"new")
        old = list(mount.versions("f"))[1].version_id
        data, stat = mount.get("f", 2, 5, version=old)
        assert (data, stat.size, stat.version_id) == (b"234", 10, old)
        assert mount.get("f", -3, version=old)[0] == b"789"
        with closing(mount.reader("f", version=old)) as reader:
            assert (reader.read(), reader.stat.size, reader.stat.version_id) == (b"0123456789", 10, old)
        stat = mount.stat("f", version=old)
        assert (stat.path, stat.size, stat.version_id, stat.is_file) == ("f", 10, old, True)
        if mount.features.content_type:
            assert stat.content_type == "text/x-old"
        assert mount.exists("f", version=old)
        assert mount.get("f")[0] == b"new"

    @needs("versions")
    def test_a_version_without_the_file_is_not_found(self, mount: Mount) -> None:
        """Neither one that was before the file, nor one of a file of a longer name."""
        before = written(mount, "g", b"1")[0].version_id
        written(mount, "f", b"1", b"2")
        refused(mount, before)
        assert contents(mount, "f") == [b"2", b"1"]

    @needs("versions", "own_versions")
    def test_an_unknown_version_is_not_found(self, mount: Mount) -> None:
        """Also one of another file, and one that was deleted."""
        written(mount, "f", b"1", b"2")
        other = written(mount, "g", b"1")[0].version_id
        gone = list(mount.versions("f"))[1].version_id
        mount.delete("f", version=gone)
        refused(mount, other)
        refused(mount, gone)
        assert contents(mount, "f") == [b"2"]

    @needs("versions")
    def test_delete_keeps_the_versions(self, mount: Mount) -> None:
        """R09: what is deleted is absent, and its versions are not; a delete marker is listed as the newest."""
        written(mount, "d/f", b"1", b"2")
        mount.put("d/other", b"x")
        mount.delete("d/f")
        assert not mount.exists("d/f")
        with pytest.raises(StorageNotFoundError):
            mount.get("d/f")
        found = list(mount.versions("d/f"))
        assert contents(mount, "d/f") == [b"2", b"1"]
        assert [one.is_delete_marker for one in found] in ([True, False, False], [False, False])
        assert [one.is_latest for one in found if not one.is_delete_marker] == [False, False]
        assert found[0].is_latest is found[0].is_delete_marker

    @needs("versions", "own_versions")
    def test_a_delete_marker_is_removed(self, mount: Mount) -> None:
        """What it hid is there again."""
        written(mount, "d/f", b"1", b"2")
        mount.delete("d/f")
        found = list(mount.versions("d/f"))
        if found[0].is_delete_marker:
            mount.delete("d/f", version=found[0].version_id)
            assert mount.get("d/f")[0] == b"2"
            assert [one.is_latest for one in mount.versions("d/f")] == [True, False]

    @needs("versions")
    def test_a_deletion_is_not_read(self, mount: Mount) -> None:
        written(mount, "f", b"1")
        mount.delete("f")
        for deletion in (one for one in mount.versions("f") if one.is_delete_marker):
            for ask in (mount.stat, mount.get):
                with pytest.raises(StorageNotFoundError):
                    ask("f", version=deletion.version_id)

    @needs("versions")
    def test_write_after_delete(self, mount: Mount) -> None:
        written(mount, "f", b"1")
        mount.delete("f")
        assert next(iter(written(mount, "f", b"3"))).is_latest
        assert contents(mount, "f") == [b"3", b"1"]
        assert mount.get("f")[0] == b"3"

    @needs("versions", "own_versions")
    def test_a_version_is_deleted(self, mount: Mount) -> None:
        """Exactly that one, for good; the newest gives way to the one before."""
        first, second, third = written(mount, "f", b"3rd", b"2nd", b"1st")
        mount.delete("f", version=second.version_id)
        assert [one.version_id for one in mount.versions("f")] == [first.version_id, third.version_id]
        assert mount.get("f")[0] == b"1st"
        mount.delete("f", version=third.version_id)
        assert contents(mount, "f") == [b"1st"]
        mount.delete("f", version=first.version_id)
        assert list(mount.versions("f")) == []
        assert not mount.exists("f")

    @needs("versions", "copy_from")
    def test_a_version_is_copied(self, backend: StorageBackend, mount: Mount) -> None:
        """Onto its own file it becomes the newest, with type and metadata."""
        kept = {"key": "old"} if backend.features.metadata else None
        mount.put("f", b"old", WriteOptions(content_type="text/x-old", metadata=kept))
        mount.put("f", b"newer", WriteOptions(content_type="text/x-new"))
        old = list(mount.versions("f"))[1].version_id
        mount.copy_from(mount, "f", "g", version=old)
        assert mount.get("g")[0] == b"old"
        mount.copy_from(mount, "f", "f", version=old)
        data, stat = mount.get("f")
        assert (data, stat.content_type) == (b"old", "text/x-old")
        assert (stat.metadata or None) == kept
        assert contents(mount, "f") == [b"old", b"newer", b"old"]

    # --- metadata and tags ---

    @needs("set_metadata")
    def test_set_metadata(self, backend: StorageBackend, mount: Mount) -> None:
        """R42: all of it is replaced; bytes, type, time and tags stay."""
        tags = TAGS if backend.features.tags else None
        own = "text/x-own; charset=utf-8"
        before = WriteOptions(metadata={"old": "x"}, content_type=own, mtime=1e9, tags=tags)
        mount.put("d/f", b"bytes", before)
        for given in ({"key": "value", "with-dash": "two words"}, {"name": "caf\u00e9 \u65e5\u672c"}, {}):
            mount.use("set_metadata", "d/f", given)
            data, stat = mount.get("d/f")
            assert (data, dict(stat.metadata or {})) == (b"bytes", given)
            assert stat.content_type == own or not backend.features.content_type
            assert stat.mtime == 1e9 or not backend.features.keeps_mtime
        if tags:
            assert mount.use("get_tags", "d/f") == TAGS
        with pytest.raises(StorageNotFoundError):
            mount.use("set_metadata", "d/absent", {"key": "value"})
        assert not mount.exists("d/absent")

    @needs("get_tags", "set_tags")
    def test_tags(self, mount: Mount) -> None:
        mount.put("d/f", b"1")
        assert mount.use("get_tags", "d/f") == {}
        most = {f"key {number}": "v" * 256 for number in range(9)} | {"k" * 128: ""}
        for tags in (TAGS, {"other": "tag"}, most, {}):
            mount.use("set_tags", "d/f", tags)
            assert mount.use("get_tags", "d/f") == tags
        assert mount.get("d/f")[0] == b"1"
        for verb, given in (("get_tags", ()), ("set_tags", (TAGS,))):
            with pytest.raises(StorageNotFoundError):
                mount.use(verb, "d/absent", *given)

    @needs("set_tags")
    @pytest.mark.parametrize(
        "tags", [{f"k{number}": "" for number in range(11)}, {"k" * 129: ""}, {"k": "v" * 257}, {"": "v"}]
    )
    def test_too_much_of_tags_is_refused(self, backend: StorageBackend, mount: Mount, tags: Mapping[str, str]) -> None:
        mount.put("f", b"old", WriteOptions(tags=TAGS) if backend.features.tags else WriteOptions())
        before = mount.use("get_tags", "f")
        with pytest.raises((ValueError, StorageError)):
            mount.use("set_tags", "f", tags)
        if backend.features.tags:
            with pytest.raises((ValueError, StorageError)):
                mount.put("f", b"new", WriteOptions(tags=tags))
        assert (mount.use("get_tags", "f"), mount.get("f")[0]) == (before, b"old")

    @needs("tags", "get_tags")
    @both_ways
    @pytest.mark.parametrize("size", [3, 9 * 1024 * 1024])
    def test_tags_go_with_a_write(self, mount: Mount, write: Put, size: int) -> None:
        """Whatever the number of its parts; a new write starts anew."""
        write(mount, "f", payload(size), WriteOptions(tags=TAGS))
        assert mount.use("get_tags", "f") == TAGS
        write(mount, "f", b"2", WriteOptions())
        assert mount.use("get_tags", "f") == {}

    @needs("versions", "set_tags")
    def test_tags_of_a_version(self, mount: Mount) -> None:
        mount.put("f", b"1")
        mount.use("set_tags", "f", TAGS)
        mount.put("f", b"2")
        old = list(mount.versions("f"))[1].version_id
        assert mount.use("get_tags", "f", version=old) == TAGS
        assert mount.use("get_tags", "f") == {}

    # --- signed requests: sent by somebody who knows nothing of the mount ---

    @needs("sign")
    def test_a_signed_read(self, backend: StorageBackend, mount: Mount) -> None:
        """Of exactly this key; it says how the answer is to be saved, whatever the characters (RFC 6266)."""
        for path in ("d/f.txt", "d/a b#?%20+[1]*\u00e9.txt"):
            mount.put(path, path.encode())
            plain = mount.use("sign", path, "GET", 60, SignOptions())
            assert 50 <= plain.expires_at - time.time() <= 61
            assert sent(plain)[0] == path.encode()
            named = mount.use("sign", path, "GET", 60, SignOptions(download_name='x"\r\nY: \u00e9\u65e5.txt'))
            data, headers = sent(named)
            assert data == path.encode()
            assert headers.get_content_disposition() == "attachment"
            name = headers["Content-Disposition"].partition("filename*=UTF-8''")[2]
            assert unquote(name).endswith("Y: \u00e9\u65e5.txt")
            assert headers["Y"] is None

    @needs("sign")
    def test_a_signed_write(self, mount: Mount) -> None:
        """What it fixes is what is stored; without its headers it is refused."""
        options = SignOptions(content_type="text/x-own", metadata={"key": "value"} if mount.features.metadata else None)
        signed = mount.use("sign", "d/up.txt", "PUT", 60, options)
        assert signed.method == "PUT"
        sent(signed, b"uploaded")
        data, stat = mount.get("d/up.txt")
        assert (data, stat.content_type) == (b"uploaded", "text/x-own")
        assert dict(stat.metadata or {}) == dict(options.metadata or {})


def sent(signed: SignedRequest, body: bytes | None = None) -> tuple[bytes, Message]:
    """The answer to a signed request, as any HTTP client gets it."""
    request = Request(signed.url, body, dict(signed.headers), method=signed.method)
    with urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers
