"""The cases about listing: complete, exact, ordered where promised, in pages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ..backends.base import StorageBackend, order
from ..exceptions import StorageNotADirectoryError, StorageNotFoundError
from ..mount import Mount
from .reading import Cases, entries
from .suite import needs, powers

TREE = (
    "a",
    "a-",
    "a.txt",
    "a0/x",
    "ab",
    "d-/x",
    "d/1",
    "d/2/3",
    "d/2/4/5",
    "d/e f",
    "d0",
    "dx/y",
    "z/\u00e9",
    "z/e",
    "Z",
)


def kinds(listing: list) -> list[tuple[str, bool]]:  # type: ignore[type-arg]
    """Sorted (path, is_dir) pairs."""
    return sorted((entry.path, entry.is_dir) for entry in listing)


class Listing(Cases):
    @pytest.fixture
    def tree(self, mount: Mount) -> Mount:
        """A mount with `TREE`, each file's content its own path."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: mount.put(path, path.encode()), TREE))
        return mount

    def test_empty_root(self, backend: StorageBackend, mount: Mount) -> None:
        """R47: an empty root exists and lists nothing."""
        assert entries(backend.scan("")) == []
        assert entries(mount.walk("")) == []
        assert mount.is_dir("")

    def test_one_level(self, backend: StorageBackend, tree: Mount) -> None:
        """Every entry once, nothing from below, no sibling that only shares a prefix, never the directory itself."""
        expected = [("d/1", False), ("d/2", True), ("d/e f", False)]
        assert kinds(entries(backend.scan("d"))) == expected
        assert kinds(entries(backend.scan("d", facts=False))) == expected
        assert kinds(entries(tree.scan("d"))) == expected
        sizes = {entry.path: entry.size for entry in entries(tree.scan("d")) if not entry.is_dir}
        assert set(sizes.values()) <= {None, 3, 5}
        assert kinds(entries(tree.scan("d/2/4"))) == [("d/2/4/5", False)]

    def test_root_level(self, tree: Mount) -> None:
        top = {path.partition("/")[0]: "/" in path for path in TREE}
        assert kinds(entries(tree.scan(""))) == sorted(top.items())

    def test_walk_is_all_of_it_in_order(self, backend: StorageBackend, tree: Mount) -> None:
        """Each once, in the bytewise order of the whole relative path; implied directories may be left out."""
        for start in ("", "d", "d/2"):
            listed = entries(tree.walk(start))
            assert "ordered" in self.unkept or listed == sorted(listed, key=order)
            below = [path for path in TREE if not start or path.startswith(f"{start}/")]
            above = {path[:at] for path in below for at in range(len(path)) if path[at] == "/" and at > len(start)}
            assert sorted(entry.path for entry in listed if not entry.is_dir) == sorted(below)
            directories = [entry.path for entry in listed if entry.is_dir]
            assert len(directories) == len(set(directories))
            assert set(directories) <= above
            if backend.features.real_dirs:
                assert set(directories) == above

    @needs("walk")
    def test_own_walk_is_complete(self, backend: StorageBackend, tree: Mount) -> None:
        assert kinds(entries(backend.walk("d"))) == kinds(entries(tree.walk("d")))
        if "ordered" in powers(backend) - self.unkept:
            listed = entries(backend.walk(""))
            assert listed == sorted(listed, key=order)

    @needs("ordered")
    def test_scan_is_in_order(self, backend: StorageBackend, tree: Mount) -> None:
        for start in ("", "d", "z"):
            listed = entries(backend.scan(start))
            assert listed == sorted(listed, key=order)

    @needs("ordered")
    def test_after(self, backend: StorageBackend, tree: Mount) -> None:
        """A listing goes on where another one stopped: after each entry come those behind it."""
        listed = entries(backend.scan(""))
        for number, entry in enumerate(listed):
            after = f"{entry.path}/" if entry.is_dir else entry.path
            assert kinds(entries(backend.scan("", after=after))) == kinds(listed[number + 1 :]), f"after {after!r}"
        assert entries(backend.scan("d", after="d/zzz")) == []

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_limit(self, backend: StorageBackend, tree: Mount, limit: int) -> None:
        whole = entries(backend.scan(""))
        some = entries(backend.scan("", limit=limit))
        assert len(some) == min(limit, len(whole))
        assert set(kinds(some)) <= set(kinds(whole))
        if "ordered" in powers(backend) - self.unkept:
            assert kinds(some) == kinds(whole[:limit])

    def test_missing_and_file(self, backend: StorageBackend, tree: Mount) -> None:
        for path in ("absent", "d/absent", "no/such", "d/2/"[:-1] + "x", "a."):
            with pytest.raises(StorageNotFoundError):
                entries(tree.scan(path))
            with pytest.raises(StorageNotFoundError):
                entries(tree.walk(path))
        for path in ("a", "d/1", "ab"):
            with pytest.raises(StorageNotADirectoryError):
                entries(tree.scan(path))
            with pytest.raises(StorageNotADirectoryError):
                entries(tree.walk(path))
        for path in ("absent", "a"):
            with pytest.raises((FileNotFoundError, NotADirectoryError)):
                entries(backend.scan(path, limit=1, facts=False))

    def test_many_entries(self, mount: Mount) -> None:
        """More than one page: none lost, none twice; and all of them go when the tree goes."""
        expected = [f"m/{number:05}" for number in range(self.many)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: mount.put(path, b""), [*expected, "m2/x", "m-"]))
        assert sorted(entry.path for entry in entries(mount.scan("m"))) == expected
        assert [entry.path for entry in entries(mount.walk("m"))] == expected
        assert sum(not entry.is_dir for entry in entries(mount.walk(""))) == self.many + 2
        mount.delete_tree("m")
        assert self.emptied_stay or not mount.exists("m")
        assert sorted(entry.path for entry in entries(mount.walk("")) if not entry.is_dir) == ["m-", "m2/x"]

    @needs("mkdir", "implied_dirs")
    def test_markers_are_not_entries(self, backend: StorageBackend, mount: Mount) -> None:
        """R12: a marker makes its directory and is never inside it, nor twice."""
        mount.mkdir("d")
        assert entries(mount.scan("d")) == []
        assert kinds(entries(mount.scan(""))) == [("d", True)]
        mount.put("d/x", b"1")
        mount.mkdir("d/sub")
        assert kinds(entries(mount.scan("d"))) == [("d/sub", True), ("d/x", False)]
        assert kinds(entries(mount.scan(""))) == [("d", True)]
        assert kinds(entries(mount.walk(""))) == [("d", True), ("d/sub", True), ("d/x", False)]
        assert kinds(entries(backend.rooted("d").scan(""))) == [("sub", True), ("x", False)]
        mount.delete("d/x")
        assert mount.is_dir("d")
        assert mount.is_dir("d/sub")

    def test_changes_are_seen_at_once(self, backend: StorageBackend, mount: Mount) -> None:
        """R18: what another handle of the same storage made, replaced or removed."""
        other = Mount("other", backend.rooted(""))
        for number in range(3):
            other.put(f"d/{number}", b"1")
            assert len(entries(mount.scan("d"))) == number + 1
        assert mount.get("d/1")[0] == b"1"
        other.put("d/1", b"22")
        assert mount.stat("d/1").size == 2
        assert mount.get("d/1")[0] == b"22"
        other.delete("d/1")
        assert not mount.exists("d/1")
        assert kinds(entries(mount.scan("d"))) == [("d/0", False), ("d/2", False)]
        with pytest.raises(StorageNotFoundError):
            mount.get("d/1")
