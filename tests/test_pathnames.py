"""Every public name of pathlib.Path is there: it does what a node can mean by it, or says that it cannot."""

from __future__ import annotations

import getpass
import os
import pathlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import StorageNotFoundError, StoragePermissionError, UnsupportedOperation

NEWER = {
    *("copy", "copy_into", "from_uri", "full_match", "info", "is_junction"),
    *("move", "move_into", "parser", "walk", "with_segments"),
}


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    with StorageManager(
        [{"name": "l", "type": "local", "path": str(tmp_path)}, {"name": "m", "type": "memory"}]
    ) as made:
        yield made


def test_no_name_is_missing() -> None:
    names = {name for name in dir(pathlib.Path) if not name.startswith("_")} | NEWER
    assert {name for name in names if not hasattr(StorageNode, name)} == set()


def test_pure_names(storage: StorageManager) -> None:
    node = storage.node("m:a b/c.txt")
    assert (node.drive, node.root, node.anchor) == ("m:", "", "m:")
    assert node.as_posix() == "m:a b/c.txt"
    assert node.as_uri() == "genro://m/a%20b/c.txt"
    assert node.is_absolute()
    assert not node.is_reserved()
    assert node.absolute() is node.expanduser() is node
    assert node.with_segments("x", "y").fullpath == "m:x/y"
    assert node.full_match("a b/*.txt")
    assert not node.full_match("*.txt")
    assert node.parser.sep == "/"
    assert storage.node("m:").is_mount
    specials = (node.is_mount, node.is_junction, node.is_fifo, node.is_socket, node.is_block_device)
    for special in (*specials, node.is_char_device):
        assert special() is False


def test_info_asks_once(storage: StorageManager) -> None:
    node = storage.node("m:f")
    info = node.info
    assert (info.exists(), info.is_file(), info.is_dir(), info.is_symlink()) == (False, False, False, False)
    node.write_text("x")
    assert not info.exists()
    assert (node.info.exists(), node.info.is_file(), storage.node("m:").info.is_dir()) == (True, True, True)


def test_of_real_files(storage: StorageManager, tmp_path: Path) -> None:
    node = storage.node("l:d/f")
    with pytest.raises(StorageNotFoundError):
        node.owner()
    node.write_text("x")
    assert node.owner() == (tmp_path / "d/f").owner() or getpass.getuser()
    assert node.group() == (tmp_path / "d/f").group()
    os.symlink("d", tmp_path / "link")
    assert storage.node("l:link/f").resolve() == node
    assert storage.node("l:link").lstat().is_symlink
    assert storage.node("l:link").info.is_dir()
    assert not storage.node("l:link").info.is_dir(follow_symlinks=False)
    assert storage.node("l:link/f").samefile(node)
    assert storage.node("l:link/f").samefile("l:d/f")
    with pytest.raises(StorageNotFoundError):
        storage.node("l:gone").resolve(strict=True)
    assert storage.node("m:x").resolve() == storage.node("m:x")


def test_copies_and_moves_by_the_names_of_pathlib(storage: StorageManager) -> None:
    node = storage.node("m:f")
    node.write_text("x")
    assert node.copy("l:g").read_text() == "x"
    storage.node("l:d").mkdir()
    assert node.copy_into("l:d").fullpath == "l:d/f"
    assert storage.node("l:g").move("m:h").fullpath == "m:h"
    assert storage.node("m:h").move_into("l:d").fullpath == "l:d/h"
    assert not storage.node("m:h").exists


def test_what_a_node_cannot_mean(storage: StorageManager) -> None:
    node = storage.node("m:f")
    for verb in (
        lambda: node.chmod(0o600), lambda: node.lchmod(0o600), lambda: node.hardlink_to("m:g"), node.owner, node.group,
        StorageNode.cwd, StorageNode.home, lambda: StorageNode.from_uri("genro://m/f"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedOperation):
            verb()


def test_permission_bits_as_pathlib_sets_them(storage: StorageManager, tmp_path: Path) -> None:
    node = storage.node("l:d/f")
    node.write_bytes(b"1")
    real = Path(node.resolved_path or "")
    for mode in (0o640, 0o4755, 0):
        node.chmod(mode)
        assert stat.S_IMODE(real.stat().st_mode) == mode
    node.parent.chmod(0o750)
    assert stat.S_IMODE(real.parent.stat().st_mode) == 0o750
    link = storage.node("l:link")
    link.symlink_to("l:d/f")
    link.chmod(0o600)
    node.lchmod(0o644)
    assert (stat.S_IMODE(real.stat().st_mode), node.stat().mode) == (0o644, 0o644)
    for refused in (lambda: link.lchmod(0o600), lambda: link.chmod(0o600, follow_symlinks=False)):
        with pytest.raises(UnsupportedOperation, match="link itself"):
            refused()
    with pytest.raises(StorageNotFoundError):
        storage.node("l:absent").chmod(0o600)


def test_permission_bits_follow_permissions_and_links(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "secret").touch(0o644)
    (tmp_path / "base/out").symlink_to("../secret")
    (tmp_path / "base/f").touch(0o644)
    local = {"name": "l", "type": "local", "path": str(tmp_path / "base")}
    with StorageManager([local, {"name": "r", "path": "l:", "permissions": "readonly"}]) as storage:
        for node in (storage.node("l:out"), storage.node("r:f")):
            with pytest.raises(StoragePermissionError):
                node.chmod(0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "base/f").stat().st_mode) == 0o644
