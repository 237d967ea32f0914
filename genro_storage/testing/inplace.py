"""The cases about what only some storages have: editing in place, links, free space, real files."""

from __future__ import annotations

import pytest

from ..backends.base import StorageBackend
from ..exceptions import StorageExistsError, StorageNotFoundError
from ..mount import Mount
from .reading import Cases, entries
from .suite import needs


class InPlace(Cases):
    @needs("edit")
    def test_edit(self, mount: Mount) -> None:
        mount.put("f", b"0123456789")
        editor = mount.backend.edit("f", "r+")
        editor.seek(3)
        assert editor.write(b"abc") == 3
        assert editor.tell() == 6
        buffer = bytearray(2)
        assert editor.readinto(memoryview(buffer)) == 2
        assert bytes(buffer) == b"67"
        editor.seek(0, 2)
        editor.write(b"!")
        editor.flush()
        editor.close()
        assert mount.get("f")[0] == b"012abc6789!"
        editor = mount.backend.edit("f", "r+")
        editor.truncate(2)
        editor.close()
        assert mount.get("f")[0] == b"01"
        with pytest.raises(FileNotFoundError):
            mount.backend.edit("absent", "r+")
        assert not mount.exists("absent")

    @needs("edit")
    def test_edit_appends(self, mount: Mount) -> None:
        for expected in (b"x", b"xx"):
            editor = mount.backend.edit("d/f", "a")
            editor.write(b"x")
            editor.close()
            assert mount.get("d/f")[0] == expected
        editor = mount.backend.edit("d/f", "a+")
        editor.seek(0)
        buffer = bytearray(5)
        assert editor.readinto(memoryview(buffer)) == 2
        editor.write(b"y")
        editor.close()
        assert mount.get("d/f")[0] == b"xxy"

    # --- links ---

    @needs("symlink", "readlink")
    def test_symlink(self, mount: Mount) -> None:
        """R04: a link reads as its target and goes alone."""
        mount.put("d/f", b"1")
        mount.symlink("d/link", "d/f")
        stat = mount.stat("d/link")
        assert stat.is_symlink
        assert mount.get("d/link")[0] == b"1"
        assert mount.readlink("d/link")
        mount.put("d/link", b"2")
        assert mount.get("d/f")[0] == b"2"
        assert mount.stat("d/link").is_symlink
        mount.delete("d/link")
        assert not mount.exists("d/link")
        assert mount.get("d/f")[0] == b"2"
        with pytest.raises(StorageExistsError):
            mount.symlink("d/f", "d/x")

    @needs("symlink")
    def test_directory_link_is_not_descended(self, mount: Mount) -> None:
        mount.put("d/f", b"1")
        mount.symlink("link", "d")
        assert {(entry.path, entry.is_symlink) for entry in entries(mount.walk(""))} == {
            *[("d", False), ("d/f", False), ("link", True)]
        }
        mount.delete_tree("link")
        assert not mount.exists("link")
        assert mount.get("d/f")[0] == b"1"

    @needs("symlink")
    def test_dangling_link(self, mount: Mount) -> None:
        mount.symlink("link", "nowhere")
        (listed,) = entries(mount.scan(""))
        assert (listed.path, listed.is_symlink, listed.is_dir, listed.is_file) == ("link", True, False, False)
        with pytest.raises(StorageNotFoundError):
            mount.get("link")
        mount.delete("link")
        assert entries(mount.scan("")) == []

    @needs("free_space")
    def test_free_space(self, backend: StorageBackend) -> None:
        assert backend.free_space() > 0

    def test_local_path(self, backend: StorageBackend) -> None:
        """Where there is a real file, it is this one."""
        backend.put("d/f", b"1")
        real = backend.local_path("d/f")
        if real is not None:
            with open(real, "rb") as file:
                assert file.read() == b"1"
