"""The node: names, facts, reading, writing, listing, changing the tree, over a real folder and over memory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    UnsupportedOperation,
)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageNode]:
    keys = {"path": str(tmp_path)} if request.param == "local" else {}
    with StorageManager(
        [{"name": "r", "type": request.param, **keys}, {"name": "ro", "path": "r:", "permissions": "readonly"}]
    ) as storage:
        yield storage.node("r:")


# --- names ---


def test_names(root: StorageNode) -> None:
    node = root / "d/archive.tar.gz"
    assert (node.basename, node.name, node.stem, node.suffix, node.suffixes, node.ext) == (
        "archive.tar.gz", "archive.tar.gz", "archive.tar", ".gz", [".tar", ".gz"], "gz",
    )  # fmt: skip
    assert node.parts == ("d", "archive.tar.gz")
    assert node.parent == root / "d"
    assert root.parent == root
    assert node.parents == (root / "d", root)
    assert node.dirname == "r:d"
    assert node.splitext() == ("d/archive.tar", ".gz")
    assert node.with_name("x") == root / "d/x"
    assert node.with_stem("x").path == "d/x.gz"
    assert node.with_suffix(".bz2").path == "d/archive.tar.bz2"
    assert node.with_suffix("").path == "d/archive.tar"
    assert node.relative_to(root / "d") == PurePosixPath("archive.tar.gz")
    assert node.is_relative_to("r:d")
    assert not node.is_relative_to("ro:d")
    assert not (root / "dx").is_relative_to("r:d")
    assert node.mimetype == "application/gzip"
    assert (root / "A.PNG").mimetype == "image/png"
    assert str(node) == node.fullpath == "r:d/archive.tar.gz"
    assert repr(node) == "StorageNode('r:d/archive.tar.gz')"
    assert not isinstance(node, os.PathLike)
    assert sorted([root / "b", root / "a"]) == [root / "a", root / "b"]
    assert len({root / "a", root / "./a", root.child("a")}) == 1
    with pytest.raises(ValueError, match="not below"):
        node.relative_to("r:e")


@pytest.mark.parametrize("bad", ["/abs", "../x", "a/../b", "a\0", "a\\b", ".genro", ".genro-x"])
def test_bad_parts_are_refused(root: StorageNode, bad: str) -> None:
    for door in (root.child, root.joinpath, root.__truediv__, (root / "f").with_name, root.glob):
        if door == root.glob and bad.startswith((".genro", "a\\")):
            continue
        with pytest.raises(StoragePathError):
            door(bad)


@pytest.mark.parametrize("bad", ["", ".", "a/b", "/"])
def test_with_name_takes_one_name(root: StorageNode, bad: str) -> None:
    with pytest.raises(StoragePathError):
        (root / "f").with_name(bad)


def test_match_is_right_anchored(root: StorageNode) -> None:
    node = root / "a/b/c.py"
    for pattern in ("*.py", "b/*.py", "a/b/c.py", "**/*.py", "a/**/c.py"):
        assert node.match(pattern), pattern
    for pattern in ("*.txt", "a/*.py", "x/a/b/c.py"):
        assert not node.match(pattern), pattern


# --- facts ---


def test_facts(root: StorageNode) -> None:
    node = root / "d/f"
    assert node.ext_attributes == (None, None, False)
    for missing in (lambda: node.size, lambda: node.mtime, node.stat):
        with pytest.raises(StorageNotFoundError, match="'r:d/f'"):
            missing()
    node.write_bytes(b"12345")
    assert node.exists
    assert node.exists() is True
    assert node.exists == True  # noqa: E712 - reads as a bool everywhere
    assert (bool(node.is_file), bool(node.is_dir), bool(node.is_symlink)) == (True, False, False)
    assert (bool(node.parent.is_file), bool(node.parent.is_dir)) == (False, True)
    assert node.size == node.stat().st_size == 5
    assert isinstance(node.mtime, float)
    assert node.mtime == node.mtime
    assert node.ext_attributes == (node.mtime, 5, False)
    assert node.parent.ext_attributes[1:] == (None, True)
    with pytest.raises(StorageIsADirectoryError):
        node.parent.size  # noqa: B018 - the access is the request
    assert not (node / "below").exists
    assert root.usage() == (1, 1, 5)


def test_hashes(root: StorageNode) -> None:
    node = root / "f"
    node.write_bytes(b"x" * 3_000_000)
    for algorithm in ("sha256", "sha1", "md5", "sha512", "blake2b"):
        assert node.hash(algorithm) == hashlib.new(algorithm, b"x" * 3_000_000).hexdigest()
    assert node.md5hash() == node.hash("md5")
    assert len(node.hash("crc32c")) == 8
    with pytest.raises(ValueError, match="unknown hash"):
        node.hash("nope")
    with pytest.raises(StorageIsADirectoryError, match="Cannot compute hash of directory"):
        root.hash()
    with pytest.raises(StorageNotFoundError):
        (root / "gone").hash()


def test_same_content_and_place(root: StorageNode) -> None:
    a, b, c = root / "a", root / "b", root / "c"
    a.write_text("same")
    b.write_text("same")
    c.write_text("diff")
    assert a.same_content(b)
    assert not a.same_content(c)
    assert not a.same_place(b)
    assert a.same_place(root.manager.node("ro:a"))
    with pytest.raises(StorageNotFoundError):
        a.same_content(root / "gone")


# --- reading and writing ---


def test_read_and_write(root: StorageNode) -> None:
    node = root / "deep/er/f.txt"
    assert node.write("häl\nlo") is True
    assert node.read() == "häl\nlo"
    assert node.read(mode="rb") == "häl\nlo".encode()
    assert node.write(b"\x00\xff", mode="wb") is True
    assert node.read_bytes() == b"\x00\xff"
    node.write_text("ä\nb", encoding="latin-1", newline="\r\n")
    assert node.read_bytes() == b"\xe4\r\nb"
    assert node.read_text(encoding="latin-1") == "ä\nb"
    with pytest.raises(UnicodeDecodeError):
        node.read_text()
    assert node.read_text(errors="replace") == "\ufffd\nb"
    for wrong in (lambda: node.write(b"x"), lambda: node.write("x", mode="wb"), lambda: node.write_bytes("x")):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            wrong()
    for bad in (lambda: node.read("w"), lambda: node.write("x", mode="a")):
        with pytest.raises(ValueError, match="mode is"):
            bad()
    assert node.read_bytes() == b"\xe4\r\nb"


def test_ranges(root: StorageNode) -> None:
    node = root / "f"
    node.write_bytes(bytes(range(100)))
    assert node.read_bytes(10, 20) == bytes(range(10, 20))
    assert node.read_bytes(-5) == bytes(range(95, 100))
    assert node.read_bytes(95, 200) == bytes(range(95, 100))
    assert node.read_bytes(200) == node.read_bytes(5, 5) == b""
    assert node.read_bytes(-500) == bytes(range(100))


def test_write_from(root: StorageNode) -> None:
    node = root / "f"
    node.write_from(io.BytesIO(b"z" * 2_500_000))
    assert node.size == 2_500_000
    node.write_from(chunk for chunk in (b"a", b"b"))
    assert node.read_bytes() == b"ab"

    def broken() -> Iterator[bytes]:
        yield b"lost"
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        node.write_from(broken())
    for wrong in (io.StringIO("text"), ["text"], "text", b"bytes"):
        with pytest.raises(TypeError):
            node.write_from(wrong)  # type: ignore[arg-type]
    assert node.read_bytes() == b"ab"


def test_conditions(root: StorageNode) -> None:
    node = root / "f"
    node.write_text("1", if_absent=True)
    with pytest.raises(StorageExistsError):
        node.write_text("2", if_absent=True)
    etag = node.stat().etag
    assert etag is not None
    node.write_text("22", if_match=node.stat())
    with pytest.raises(StorageConflictError):
        node.write_text("3", if_match=etag)
    with pytest.raises(StorageConflictError):
        (root / "gone").write_text("3", if_match=etag)
    assert node.read_text() == "22"
    assert not (root / "gone").exists
    with pytest.raises(UnsupportedOperation, match="does not support metadata"):
        node.write_text("4", metadata={"a": "b"})


def test_skip_if_unchanged(root: StorageNode) -> None:
    node = root / "f"
    assert node.write_bytes(b"x", skip_if_unchanged=True) is True
    assert node.write_bytes(b"x", skip_if_unchanged=True) is False
    assert node.write_bytes(b"y", skip_if_unchanged=True) is True
    assert node.read_bytes() == b"y"


def test_mtime_is_kept(root: StorageNode) -> None:
    node = root / "f"
    node.write_bytes(b"x", mtime=1_000_000_000.25)
    assert node.mtime == 1_000_000_000.25
    node.touch(mtime=1_000_000_001.5)
    assert node.mtime == 1_000_000_001.5


# --- open ---


def test_open_for_reading(root: StorageNode) -> None:
    node = root / "f"
    node.write_bytes(b"line 1\r\nline 2\n" + b"x" * 3_000_000)
    with node.open("rb") as file:
        assert isinstance(file, io.BufferedIOBase)
        assert file.read(6) == b"line 1"
        assert file.seek(-3, io.SEEK_END) == 3_000_012
        assert file.read() == b"xxx"
        assert file.seek(8) == 8
        assert file.readline() == b"line 2\n"
        assert file.tell() == 15
        assert not file.writable()
    with node.open() as text:
        assert isinstance(text, io.TextIOBase)
        assert next(iter(text)) == "line 1\n"
    with node.open("rb", buffering=0) as raw:
        assert isinstance(raw, io.RawIOBase)
        assert raw.read(4) == b"line"
    for mode in ("r", "rb", "r+"):
        with pytest.raises(StorageNotFoundError):
            (root / "gone").open(mode)
        with pytest.raises(StorageIsADirectoryError):
            root.open(mode)


@pytest.mark.parametrize("mode", ["", "q", "rw", "rbt", "b", "rbb", "r++", "U"])
def test_bad_modes(root: StorageNode, mode: str) -> None:
    with pytest.raises(ValueError, match="invalid mode"):
        (root / "f").open(mode)


def test_open_arguments(root: StorageNode) -> None:
    (root / "f").write_text("x")
    with pytest.raises(ValueError, match="binary mode takes no"):
        (root / "f").open("rb", encoding="utf-8")
    with pytest.raises(ValueError, match="if_absent: only for writing"):
        (root / "f").open("r", if_absent=True)
    with pytest.raises(TypeError):
        (root / "f").open("r", "utf-8")  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["wb", "w", "x", "w+b", "a"])
def test_what_is_written_appears_at_close(root: StorageNode, mode: str) -> None:
    node = root / "sub/f"
    data = b"new" if "b" in mode else "new"
    file = node.open(mode)
    file.write(data)
    if mode != "a":
        assert not node.exists
    assert [child for child in root.children() if child.basename != "sub"] == []
    file.close()
    assert node.read_text() == "new"
    file.close()


@pytest.mark.parametrize("mode", ["wb", "w", "w+b", "w+"])
def test_an_exception_keeps_the_old_bytes(root: StorageNode, mode: str) -> None:
    """R15."""
    node = root / "f"
    node.write_text("old")
    data = b"x" * 300_000 if "b" in mode else "x" * 300_000
    with pytest.raises(RuntimeError, match="mine"), node.open(mode) as file:
        file.write(data)
        raise RuntimeError("mine")
    file = node.open(mode)
    file.write(data)
    file.discard()  # type: ignore[attr-defined]
    assert node.read_text() == "old"
    assert [child.basename for child in root.children()] == ["f"]


def test_a_dropped_writer_warns_and_writes_nothing(root: StorageNode) -> None:
    """R19."""
    for mode, data in (("wb", b"x" * 300_000), ("w", "x" * 300_000)):
        file = (root / "f").open(mode)
        file.write(data)
        with pytest.warns(ResourceWarning, match="'r:f' was dropped unclosed"):
            del file
    assert root.children() == []


def test_x_and_a_and_plus(root: StorageNode) -> None:
    node = root / "f"
    with node.open("x") as file:
        file.write("1")
    with pytest.raises(StorageExistsError):
        node.open("x")
    with node.open("a") as file:
        file.write("2")
    with node.open("ab") as file:
        file.write(b"3")
    assert node.read_text() == "123"
    with node.open("r+b") as file:
        file.seek(1)
        file.write(b"X")
        file.seek(0)
        assert file.read() == b"1X3"
        file.truncate(2)
    assert node.read_text() == "1X"
    with node.open("w+") as file:
        file.write("abc")
        file.seek(0)
        assert file.read() == "abc"
    assert node.read_text() == "abc"
    with node.open("a+") as file:
        file.write("d")
        file.seek(0)
        assert file.read() == "abcd"


def test_readonly_mounts_are_never_written(root: StorageNode) -> None:
    """R24, R29, R48."""
    (root / "f").write_text("old")
    node = root.manager.node("ro:f")
    assert not node.capabilities.write
    for mode in ("w", "wt", "wb", "x", "xb", "a", "at", "ab", "r+b", "w+b", "a+"):
        with pytest.raises(StoragePermissionError, match="'readonly'"):
            node.open(mode)
    for verb in (
        lambda: node.write_text("x"), node.touch, node.delete, node.parent.empty, lambda: node.rename("g"), node.unlink,
        lambda: node.parent.child("d").mkdir(), lambda: node.move_to("r:g"), lambda: root.copy_to("ro:d"),
        lambda: node.local_path("rw").__enter__(),
    ):  # fmt: skip
        with pytest.raises(StoragePermissionError):
            verb()
    assert node.read_text() == "old"
    assert [child.basename for child in root.children()] == ["f"]


# --- listing ---


def plant(root: StorageNode, *names: str) -> None:
    for name in names:
        (root / name).write_text(name)


def test_listing(root: StorageNode) -> None:
    plant(root, "b", "a/2", "a/1", "a/s/x.py", ".dot", "a-b")
    assert [node.path for node in root.children()] == [".dot", "a", "a-b", "b"]
    assert {node.path for node in root.iterdir()} == {".dot", "a", "a-b", "b"}
    assert [node.path for node, _ in root.scan()] == [".dot", "a-b", "a", "b"]
    assert [(node.path, stat.size) for node, stat in root.scan(recursive=True) if stat.is_file] == [
        (".dot", 4), ("a-b", 3), ("a/1", 3), ("a/2", 3), ("a/s/x.py", 8), ("b", 1),
    ]  # fmt: skip
    walked = [(node.path, dirs, files) for node, dirs, files in root.walk()]
    assert walked == [("", ["a"], [".dot", "a-b", "b"]), ("a", ["s"], ["1", "2"]), ("a/s", [], ["x.py"])]
    assert [node.path for node, _, _ in root.walk(top_down=False)] == ["a/s", "a", ""]
    with pytest.raises(StorageNotFoundError):
        (root / "gone").children()
    with pytest.raises(StorageNotADirectoryError):
        (root / "b").children()


def test_walk_can_be_pruned_and_errors_are_told(root: StorageNode) -> None:
    plant(root, "a/x", "b/y")
    seen = []
    for node, directories, _ in root.walk():
        seen.append(node.path)
        if "a" in directories:
            directories.remove("a")
    assert seen == ["", "b"]
    errors: list[Exception] = []
    assert list((root / "gone").walk(on_error=errors.append)) == []
    assert isinstance(errors[0], StorageNotFoundError)


def test_glob(root: StorageNode) -> None:
    plant(root, "a.py", "d/b.py", "d/e/c.py", "d/e/c.txt", "x[1].py", "d/.h.py")

    def found(pattern: str) -> list[str]:
        return [node.path for node in root.glob(pattern)]

    assert found("*.py") == ["a.py", "x[1].py"]
    assert found("**/*.py") == ["a.py", "d/.h.py", "d/b.py", "d/e/c.py", "x[1].py"]
    assert [node.path for node in root.rglob("c.*")] == ["d/e/c.py", "d/e/c.txt"]
    assert found("d/*/c.py") == found("d/e/c.py") == ["d/e/c.py"]
    assert found("x[[]1].py") == ["x[1].py"]
    assert found("?.py") == ["a.py"]
    assert found("[!a]*.py") == ["x[1].py"]
    assert found("d/**") == ["d", "d/.h.py", "d/b.py", "d/e", "d/e/c.py", "d/e/c.txt"]
    assert found("gone/*") == found("a.py/*") == found("gone") == []
    assert [node.path for node in (root / "d").glob("**/e/*.py")] == ["d/e/c.py"]
    with pytest.raises(StorageNotFoundError):
        (root / "gone").glob("*")
    for bad in ("../*", "/x", ""):
        with pytest.raises(StoragePathError):
            root.glob(bad)


# --- changing the tree ---


def test_mkdir(root: StorageNode) -> None:
    (root / "d").mkdir()
    assert (root / "d").is_dir
    with pytest.raises(StorageExistsError):
        (root / "d").mkdir()
    (root / "d").mkdir(exist_ok=True)
    with pytest.raises(StorageNotFoundError):
        (root / "x/y").mkdir()
    (root / "x/y/z").mkdir(parents=True)
    (root / "f").write_text("")
    for exist_ok in (False, True):
        with pytest.raises(StorageExistsError):
            (root / "f").mkdir(exist_ok=exist_ok)
    with pytest.raises(StorageExistsError):
        root.mkdir()
    root.mkdir(exist_ok=True)


def test_touch(root: StorageNode) -> None:
    node = root / "f"
    node.touch()
    assert node.size == 0
    with pytest.raises(StorageExistsError):
        node.touch(exist_ok=False)
    node.write_text("kept")
    node.touch()
    assert node.read_text() == "kept"


def test_delete(root: StorageNode) -> None:
    plant(root, "f", "d/a", "d/e/b", "dx", "d-x")
    (root / "f").delete()
    (root / "f").delete()
    with pytest.raises(StorageNotFoundError):
        (root / "f").delete(missing_ok=False)
    with pytest.raises(StorageNotFoundError):
        (root / "f").unlink()
    (root / "f").unlink(missing_ok=True)
    with pytest.raises(StorageNotEmptyError):
        (root / "d").delete(recursive=False)
    with pytest.raises(StorageNotEmptyError):
        (root / "d").rmdir()
    with pytest.raises(StorageIsADirectoryError):
        (root / "d").unlink()
    (root / "d").delete()
    assert [node.path for node in root.children()] == ["d-x", "dx"]


def test_roots_are_not_deleted(root: StorageNode) -> None:
    """R05."""
    plant(root, "a", "d/b")
    for verb in (root.delete, root.rmdir, root.unlink, lambda: root.rename("x")):
        with pytest.raises(StorageError):
            verb()
    assert (root / "d/b").exists
    root.empty()
    assert root.exists
    assert root.children() == []
    plant(root, "d/b", "e")
    (root / "d").empty()
    assert (root / "d").is_dir
    assert (root / "d").children() == []
    assert (root / "e").exists


@pytest.mark.parametrize("name", ["data*.txt", "report[1].txt", "what?.txt", "{a,b}", "~", "$HOME", "-rf", "a b#%20"])
def test_names_are_never_patterns(root: StorageNode, name: str) -> None:
    """R01."""
    others = ("data1.txt", "report1.txt", "what1.txt", "a", "b", "f")
    plant(root, name, *others)
    (root / name).copy_to(root / "copied")
    (root / name).move_to(root / "moved")
    assert (root / "copied").read_text() == (root / "moved").read_text() == name
    (root / "moved").rename(name)
    (root / name).delete()
    assert sorted(node.basename for node in root.children()) == sorted(["copied", *others])


def test_rename(root: StorageNode) -> None:
    plant(root, "a", "b", "d/x")
    moved = (root / "a").rename("c")
    assert moved == root / "c"
    assert moved.read_text() == "a"
    assert not (root / "a").exists
    with pytest.raises(StorageExistsError):
        (root / "c").rename("b")
    assert (root / "c").replace("b").read_text() == "a"
    assert (root / "b").rename("b") == root / "b"
    assert (root / "b").exists
    assert (root / "d").rename("r:e").children()[0].read_text() == "d/x"
    for outside in ("../out", "/abs", "a/../../b"):
        with pytest.raises(StoragePathError):
            (root / "b").rename(outside)
    root.manager.configure([{"name": "other", "type": "memory"}])
    with pytest.raises(UnsupportedOperation, match="move_to"):
        (root / "b").rename("other:b")
    assert (root / "b").exists


# --- tools ---


def test_local_path(root: StorageNode) -> None:
    """R17."""
    node = root / "d/in.txt"
    with pytest.raises(StorageNotFoundError), node.local_path("r"):
        pass
    with pytest.raises(ValueError, match="local_path mode"), node.local_path("wb"):
        pass
    with node.local_path("w") as path:
        assert os.path.basename(path) == "in.txt"
        assert not os.path.exists(path)
        Path(path).write_text("made")
    assert node.read_text() == "made"
    with node.local_path("rw") as path:
        assert Path(path).read_text() == "made"
        Path(path).write_text("changed")
    assert node.read_text() == "changed"
    with node.local_path() as path:
        assert Path(path).read_text() == "changed"
    if node.resolved_path is None:
        with node.local_path("r") as path:
            Path(path).write_text("dropped")
        with pytest.raises(RuntimeError), node.local_path("rw") as path:
            Path(path).write_text("dropped")
            raise RuntimeError
        with (root / "untouched").local_path("w"):
            pass
        assert not (root / "untouched").exists
        assert not os.path.exists(os.path.dirname(path))
    assert node.read_text() == "changed"


def test_a_file_another_made_or_removed_is_seen_by_the_next_call(root: StorageNode) -> None:
    """R18."""
    node, other = root / "f", root.manager.node("ro:f")
    assert not other.exists
    node.write_text("1")
    assert other.read_text() == "1"
    node.write_text("two")
    assert other.size == 3
    node.delete()
    assert not other.exists
    assert root.children() == []
