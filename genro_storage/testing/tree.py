"""The cases about changing the tree: directories, removal, links, renames, copies, editing in place."""

from __future__ import annotations

import pytest

from ..backends.base import StorageBackend
from ..exceptions import (
    StorageConflictError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    UnsupportedOperation,
)
from ..mount import Mount
from ..types import WriteOptions
from .listing import kinds
from .reading import Cases, entries, payload
from .suite import needs

PREFIXES = ("a", "a.txt", "ab", "a b", "b/a", "b/a2/x", "b/a/"[:-1] + "3")


class Tree(Cases):
    # --- directories ---

    @needs("mkdir")
    def test_mkdir(self, mount: Mount) -> None:
        mount.mkdir("d")
        assert mount.is_dir("d")
        assert mount.exists("d")
        assert not mount.is_file("d")
        assert entries(mount.scan("d")) == []
        assert kinds(entries(mount.scan(""))) == [("d", True)]
        with pytest.raises(StorageExistsError):
            mount.mkdir("d")
        mount.mkdir("d", exist_ok=True)
        mount.put("d/x", b"1")
        mount.mkdir("d", exist_ok=True)
        assert mount.get("d/x")[0] == b"1"

    @needs("mkdir")
    def test_mkdir_over_a_file(self, mount: Mount) -> None:
        """R47: refused, `exist_ok` or not; the file stays."""
        mount.put("f", b"1")
        for exist_ok in (False, True):
            with pytest.raises(StorageExistsError):
                mount.mkdir("f", exist_ok=exist_ok)
        assert mount.get("f")[0] == b"1"

    @needs("mkdir")
    def test_mkdir_of_the_root(self, mount: Mount) -> None:
        with pytest.raises(StorageExistsError):
            mount.mkdir("")
        mount.mkdir("", exist_ok=True)

    @needs("mkdir")
    def test_mkdir_parents(self, backend: StorageBackend, mount: Mount) -> None:
        if backend.features.real_dirs:
            with pytest.raises(StorageNotFoundError):
                mount.mkdir("a/b/c")
            assert not mount.exists("a")
        mount.mkdir("a/b/c", parents=True)
        assert mount.is_dir("a/b/c")
        assert mount.is_dir("a")
        mount.mkdir("a/b/c", parents=True, exist_ok=True)

    @needs("rmdir", "mkdir")
    def test_rmdir(self, mount: Mount) -> None:
        mount.mkdir("d")
        mount.put("d/x", b"1")
        with pytest.raises(StorageNotEmptyError):
            mount.rmdir("d")
        mount.delete("d/x")
        mount.rmdir("d")
        assert not mount.exists("d")
        with pytest.raises(StorageNotFoundError):
            mount.rmdir("d")
        mount.put("f", b"1")
        with pytest.raises(StorageNotADirectoryError):
            mount.rmdir("f")
        assert mount.get("f")[0] == b"1"

    # --- removal ---

    def test_delete_is_exact(self, mount: Mount) -> None:
        for path in PREFIXES:
            mount.put(path, path.encode())
        for number, path in enumerate(PREFIXES):
            mount.delete(path)
            for left in PREFIXES[number + 1 :]:
                assert mount.get(left)[0] == left.encode()
            assert not mount.is_file(path)

    def test_delete_of_a_prefix_removes_nothing(self, backend: StorageBackend, mount: Mount) -> None:
        """A directory is not a key: where directories are real it is refused, elsewhere nothing happens."""
        mount.put("d/x", b"1")
        mount.put("d/y", b"1")
        kinds_of_refusal = (StorageIsADirectoryError, StorageNotFoundError)
        if backend.features.real_dirs:
            with pytest.raises(StorageIsADirectoryError):
                mount.delete("d")
        else:
            try:
                mount.delete("d")
            except kinds_of_refusal:
                pass  # as good as silence
        assert kinds(entries(mount.scan("d"))) == [("d/x", False), ("d/y", False)]

    @needs("tells_missing")
    def test_delete_of_nothing(self, mount: Mount) -> None:
        mount.put("d/x", b"1")
        for path in ("absent", "d/absent", "no/such"):
            with pytest.raises(StorageNotFoundError):
                mount.delete(path)

    def test_delete_many(self, mount: Mount) -> None:
        """Exactly these keys; what is absent already is no failure."""
        for path in (*PREFIXES, "data*.txt", "data1.txt", "x\ny", "a&b"):
            mount.put(path, b"1")
        gone = ["a", "b/a", "data*.txt", "x\ny", "a&b", "absent"]
        assert mount.delete_many(gone) == []
        left = {entry.path for entry in entries(mount.walk("")) if not entry.is_dir}
        assert left == ({*PREFIXES, "data1.txt"} - set(gone))
        assert mount.delete_many([]) == []

    def test_delete_tree(self, mount: Mount) -> None:
        for path in ("d/x", "d/e/f", "d/e/g/h", "d2/x", "d.txt", "da"):
            mount.put(path, b"1")
        mount.delete_tree("d")
        assert self.emptied_stay or not mount.exists("d")
        assert sorted(entry.path for entry in entries(mount.walk("")) if not entry.is_dir) == ["d.txt", "d2/x", "da"]
        mount.delete_tree("")
        assert self.emptied_stay or entries(mount.scan("")) == []
        assert mount.is_dir("")

    def test_roots_are_not_removed(self, mount: Mount) -> None:
        """R05."""
        mount.put("f", b"1")
        for refused in (mount.delete, mount.rmdir):
            with pytest.raises(StoragePermissionError):
                refused("")
        assert mount.get("f")[0] == b"1"

    # --- the storage moves bytes by itself ---

    @needs("rename_from")
    def test_rename_a_file(self, backend: StorageBackend, mount: Mount) -> None:
        mount.put("d/old", b"1")
        mount.put("e/there", b"2")
        mount.rename_from(mount, "d/old", "new/dir/name")
        assert mount.get("new/dir/name")[0] == b"1"
        assert not mount.exists("d/old")
        mount.rename_from(mount, "new/dir/name", "e/there")
        assert mount.get("e/there")[0] == b"1"
        with pytest.raises(StorageNotFoundError):
            mount.rename_from(mount, "absent", "x")
        assert not mount.exists("x")
        if backend.features.if_absent != "none":
            mount.put("f", b"3")
            with pytest.raises(StorageExistsError):
                mount.rename_from(mount, "f", "e/there", WriteOptions(if_absent=True))
            assert (mount.get("e/there")[0], mount.get("f")[0]) == (b"1", b"3")

    @needs("rename_from")
    def test_rename_a_directory(self, backend: StorageBackend, mount: Mount) -> None:
        for path in ("d/x", "d/e/f", "d2/x"):
            mount.put(path, path.encode())
        try:
            mount.rename_from(mount, "d", "n")
        except UnsupportedOperation:
            assert not backend.features.real_dirs
            return
        assert not mount.exists("d")
        assert mount.get("n/x")[0] == b"d/x"
        assert mount.get("n/e/f")[0] == b"d/e/f"
        assert mount.get("d2/x")[0] == b"d2/x"

    @needs("rename_from")
    def test_rename_between_roots(self, backend: StorageBackend, mount: Mount) -> None:
        one, two = Mount("one", backend.rooted("one")), Mount("two", backend.rooted("two"))
        one.put("f", b"1")
        two.put("g", b"2")
        two.rename_from(one, "f", "d/f")
        assert mount.get("two/d/f")[0] == b"1"
        assert not mount.exists("one/f")

    @needs("rename_from")
    def test_rename_over_another_kind(self, backend: StorageBackend, mount: Mount) -> None:
        """A file never replaces a directory, nor a directory a file."""
        if not backend.features.real_dirs:
            return
        mount.put("f", b"1")
        mount.put("d/x", b"2")
        for source, target in (("f", "d"), ("d", "f")):
            with pytest.raises(
                (StorageIsADirectoryError, StorageNotADirectoryError, StorageNotEmptyError, StorageExistsError)
            ):
                mount.rename_from(mount, source, target)
        assert (mount.get("f")[0], mount.get("d/x")[0]) == (b"1", b"2")

    @needs("copy_from")
    @pytest.mark.parametrize("size", [0, 1000, 6 * 1024 * 1024])
    def test_copy(self, mount: Mount, size: int) -> None:
        data = payload(size)
        mount.put("d/f", data)
        assert mount.copy_from(mount, "d/f", "new/g").size in (size, None)
        assert mount.get("new/g")[0] == data
        mount.put("there", b"old")
        mount.copy_from(mount, "d/f", "there")
        assert mount.get("there")[0] == data
        assert mount.get("d/f")[0] == data

    @needs("copy_from")
    def test_copy_of_nothing_and_of_a_directory(self, mount: Mount) -> None:
        mount.put("t", b"old")
        mount.put("d/x", b"1")
        with pytest.raises(StorageNotFoundError):
            mount.copy_from(mount, "absent", "t")
        with pytest.raises((StorageNotFoundError, StorageIsADirectoryError, UnsupportedOperation)):
            mount.copy_from(mount, "d", "t")
        assert mount.get("t")[0] == b"old"

    @needs("copy_from", "edit")
    def test_copy_of_a_file_that_changes(self, mount: Mount) -> None:
        """Edited in place while it is copied, it gives one state or a conflict, and the old target stays."""
        size = 20 * 1024 * 1024
        mount.put("f", b"o" * size)
        mount.put("g", b"old")

        def change(done: int) -> None:
            editor = mount.backend.edit("f", "r+")
            for at in (0, size // 2, size - 10):
                editor.seek(at)
                editor.write(b"changed")
            editor.close()

        try:
            mount.copy_from(mount, "f", "g", tick=change)
        except StorageConflictError:
            assert mount.get("g")[0] == b"old"
        assert mount.get("g")[0] in (b"old", b"o" * size, mount.get("f")[0])

    @needs("copy_from", "atomic_if_match")
    def test_copy_of_a_source_that_was_replaced(self, mount: Mount) -> None:
        """Asked for what was there, the storage does not copy what is there now."""
        mount.put("f", b"first")
        stale = mount.stat("f").etag
        mount.put("f", b"second one")
        for options in (WriteOptions(source_match=stale), WriteOptions(source_match=stale, if_absent=True)):
            with pytest.raises(StorageConflictError, match="source"):
                mount.copy_from(mount, "f", "g", options)
        assert not mount.exists("g")
        assert mount.copy_from(mount, "f", "g", WriteOptions(source_match=mount.stat("f").etag)).size in (10, None)
        assert mount.get("g")[0] == b"second one"

    @needs("copy_from", "if_absent")
    def test_copy_if_absent(self, mount: Mount) -> None:
        mount.put("f", b"1")
        mount.copy_from(mount, "f", "g", WriteOptions(if_absent=True))
        mount.put("f", b"2")
        try:
            with pytest.raises(StorageExistsError):
                mount.copy_from(mount, "f", "g", WriteOptions(if_absent=True))
        except UnsupportedOperation:
            pass  # the server cannot judge it on a copy: the caller streams instead
        assert mount.get("g")[0] == b"1"

    @needs("copy_from", "metadata")
    def test_copy_keeps_metadata(self, mount: Mount) -> None:
        mount.put("f", b"1", WriteOptions(metadata={"k": "v"}, content_type="text/x-own"))
        mount.copy_from(mount, "f", "g")
        stat = mount.stat("g")
        assert dict(stat.metadata or {}) == {"k": "v"}
        assert stat.content_type == "text/x-own" or not mount.features.content_type

    @needs("copy_from", "metadata")
    def test_copy_that_leaves_metadata_behind(self, mount: Mount) -> None:
        """And the time that is kept among it; or the storage cannot, and the caller streams."""
        mount.put("f", b"1", WriteOptions(metadata={"k": "v"}, mtime=86_400.0))
        try:
            mount.copy_from(mount, "f", "g", WriteOptions(metadata={}))
        except UnsupportedOperation:
            assert not mount.exists("g")
            return
        stat = mount.stat("g")
        assert not stat.metadata
        assert stat.mtime != 86_400.0

    @needs("copy_from")
    def test_copy_between_roots(self, backend: StorageBackend, mount: Mount) -> None:
        one, two = Mount("one", backend.rooted("one")), Mount("two", backend.rooted("two"))
        one.put("f*", b"1")
        two.copy_from(one, "f*", "d/g")
        assert mount.get("two/d/g")[0] == b"1"

    # --- roots ---

    def test_rooted(self, backend: StorageBackend, mount: Mount) -> None:
        """A rooted twin sees what is below its root, by names relative to it, and nothing else."""
        mount.put("outside", b"0")
        mount.put("r2/x", b"0")
        below = Mount("below", backend.rooted("r/s"))
        below.put("d/f", b"1")
        assert mount.get("r/s/d/f")[0] == b"1"
        assert below.get("d/f")[0] == b"1"
        assert [entry.path for entry in entries(below.walk("")) if not entry.is_dir] == ["d/f"]
        assert kinds(entries(below.scan(""))) == [("d", True)]
        assert not below.exists("outside")
        assert not below.exists("r/s/d/f")
        deeper = Mount("deeper", below.backend.rooted("d"))
        assert deeper.get("f")[0] == b"1"
        deeper.delete("f")
        assert not mount.exists("r/s/d/f")
        assert mount.get("outside")[0] == b"0"

    @pytest.mark.parametrize("path", ["..", "a/../..", "../x", "/.."])
    def test_no_root_climbs(self, backend: StorageBackend, path: str) -> None:
        """Containment is the backend's duty too, not only that of the mount that normalises paths."""
        with pytest.raises(StoragePathError):
            backend.rooted(path).native_path("x")

    @needs("real_dirs")
    @pytest.mark.parametrize("path", ["../outside", "d/../../outside", "..", "../new"])
    def test_no_path_climbs(self, backend: StorageBackend, mount: Mount, path: str) -> None:
        """Where ``..`` would mean the directory above; a key of an object store may hold it as plain text."""
        mount.put("outside", b"0")
        mount.put("r/d/x", b"1")
        below = backend.rooted("r")
        for verb in (below.stat, below.get, below.reader, below.delete, below.mkdir, below.writer):
            with pytest.raises((StoragePathError, StoragePermissionError)):
                verb(path)
        with pytest.raises((StoragePathError, StoragePermissionError)):
            below.put(path, b"2")
        with pytest.raises((StoragePathError, StoragePermissionError)):
            entries(below.scan(path))
        for ability in {"symlink", "rename_from", "copy_from", "rmdir", "edit"} & backend.abilities:
            with pytest.raises((StoragePathError, StoragePermissionError)):
                call_across(below, ability, path)
        assert sorted(entry.path for entry in entries(mount.walk("")) if not entry.is_dir) == ["outside", "r/d/x"]
        assert mount.get("outside")[0] == b"0"


def call_across(backend: StorageBackend, ability: str, path: str) -> None:
    """One ability with `path` as its second name, the first being a file that is there."""
    if ability in ("rename_from", "copy_from"):
        getattr(backend, ability)(backend, "d/x", path)
    elif ability == "symlink":
        backend.symlink("link", path)
    else:
        getattr(backend, ability)(path, *(["r+"] if ability == "edit" else []))
