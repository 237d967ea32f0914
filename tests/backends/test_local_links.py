"""Links of the local file system: followed inside the mount, never out of it, whoever swaps what meanwhile."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from genro_storage.backends import _kernel
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.exceptions import (
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount

ROUNDS = 5000


def mount(path: Path, **keys: object) -> Mount:
    return Mount("m", LocalStorage(LocalOptions(path=str(path), **keys)))  # type: ignore[arg-type]


@pytest.fixture(params=["openat2", "steps"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything here holds with the kernel's own resolution and with ours, one directory at a time."""
    if request.param == "steps":
        monkeypatch.setattr(_kernel, "open_directory", lambda path: -1)
        monkeypatch.setattr(_kernel, "open_any", lambda path: -1)
    return str(request.param)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """``base/in/f`` and ``outside/f``, with links of every kind below ``base/l``."""
    for folder, text in (("base/in", "inside"), ("outside", "outside")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "f").write_text(text)
    base = tmp_path / "base"
    links = base / "l"
    links.mkdir()
    (links / "file").symlink_to("../in/f")
    (links / "dir").symlink_to("../in")
    (links / "absolute").symlink_to(base / "in")
    (links / "chain").symlink_to("dir")
    (links / "up").symlink_to("..")
    (links / "out").symlink_to(tmp_path / "outside")
    (links / "outfile").symlink_to("../../outside/f")
    (links / "outchain").symlink_to("out")
    (links / "sibling").symlink_to(f"{base}-2")
    (links / "nowhere").symlink_to("missing")
    (links / "circle").symlink_to("circle2")
    (links / "circle2").symlink_to("circle")
    (tmp_path / "base-2").mkdir()
    (tmp_path / "base-2" / "f").write_text("outside")
    return base


INSIDE = ("l/file", "l/dir/f", "l/absolute/f", "l/chain/f", "l/up/in/f", "l/up/l/up/l/file")
OUTSIDE = ("l/outfile", "l/out/f", "l/outchain/f", "l/sibling/f", "l/up/l/out/f")
CIRCLES = ("l/circle", "l/circle/f")


@pytest.mark.parametrize("path", INSIDE)
def test_links_inside_are_followed(base: Path, path: str) -> None:
    m = mount(base)
    data, stat = m.get(path)
    assert (data, stat.path, stat.size) == (b"inside", path, 6)
    assert m.stat(path).size == 6
    assert m.is_file(path)
    assert m.local_path(path) == str(base / path)
    m.put(path, b"new")
    assert (base / "in/f").read_bytes() == b"new"
    writer = m.writer(path)
    writer.write(b"newer")
    writer.commit()
    assert (base / "in/f").read_bytes() == b"newer"
    assert (base / "l/file").is_symlink(), "the link stays, its target is replaced"
    assert os.listdir(base / "in") == ["f"]


def test_links_to_directories(base: Path) -> None:
    m = mount(base)
    assert [entry.path for page in m.scan("l/chain") for entry in page] == ["l/chain/f"]
    assert (m.stat("l/dir").is_dir, m.stat("l/dir").is_symlink) == (True, True)
    m.put("l/dir/new/deep", b"1")
    assert (base / "in/new/deep").read_bytes() == b"1"
    m.mkdir("l/absolute/d")
    m.rename_from(m, "l/chain/f", "l/dir/d/g")
    assert (base / "in/d/g").read_text() == "inside"


@pytest.mark.parametrize("path", [*OUTSIDE, *CIRCLES])
def test_links_out_are_refused(base: Path, path: str) -> None:
    """Reading, writing, changing: nothing passes; what is outside stays as it was."""
    m = mount(base)
    verbs: list[Callable[[], object]] = [
        lambda: m.get(path),
        lambda: m.reader(path),
        lambda: m.put(path, b"new"),
        lambda: m.writer(path),
        lambda: m.backend.edit(path, "a"),
        lambda: m.copy_from(m, path, "copy"),
        lambda: m.copy_from(m, "in/f", path),
        lambda: m.local_path(path),
        lambda: list(m.scan(path)),
        lambda: m.put(f"{path}/x", b"new"),
        lambda: m.mkdir(f"{path}/x"),
        lambda: m.rename_from(m, "in/f", f"{path}/x"),
        lambda: m.symlink(f"{path}/x", "in/f"),
    ]
    for verb in verbs:
        with pytest.raises(StoragePermissionError):
            verb()
    assert (base.parent / "outside/f").read_text() == "outside"
    assert sorted(os.listdir(base.parent / "outside")) == ["f"]
    assert not (base / "copy").exists()


@pytest.mark.parametrize("path", ["l/out", "l/outfile", "l/sibling", "l/nowhere", "l/circle"])
def test_they_are_listed_and_deleted(base: Path, path: str) -> None:
    """R04: neither file nor directory, and only the link goes."""
    m = mount(base)
    for facts in (True, False):
        listed = {entry.path: entry for page in m.scan("l", facts=facts) for entry in page}
        entry = listed[path]
        assert (entry.is_symlink, entry.is_other, entry.is_dir, entry.is_file) == (True, True, False, False)
    assert m.stat(path).is_other
    assert m.exists(path)
    assert not m.is_file(path)
    assert m.readlink(path) == os.readlink(base / path)
    m.delete(path)
    assert not m.exists(path)
    assert not os.path.lexists(base / path)
    assert (base.parent / "outside/f").read_text() == "outside"
    assert (base.parent / "base-2/f").read_text() == "outside"


def test_deleting_a_tree_of_links(base: Path) -> None:
    m = mount(base)
    m.delete_tree("l/dir")
    assert (base / "in/f").read_text() == "inside"
    m.delete_tree("l")
    assert not (base / "l").exists()
    assert (base / "in/f").read_text() == "inside"
    assert (base.parent / "outside/f").read_text() == "outside"


def test_links_that_lead_nowhere(base: Path) -> None:
    m = mount(base)
    for path in ("l/nowhere", "l/nowhere/x"):
        with pytest.raises(StorageNotFoundError, match="leads nowhere"):
            m.get(path)
        with pytest.raises(StorageNotFoundError, match="leads nowhere"):
            m.put(path, b"1")
    assert not m.exists("l/nowhere/x")
    assert not (base / "l/missing").exists()


@pytest.mark.parametrize("path", INSIDE)
def test_refuse(base: Path, path: str) -> None:
    m = mount(base, symlinks="refuse")
    with pytest.raises(StoragePermissionError, match="symlinks: refuse"):
        m.get(path)
    with pytest.raises(StoragePermissionError, match="symlinks: refuse"):
        m.put(path, b"new")
    with pytest.raises(StoragePermissionError):
        m.symlink("new", "in/f")
    assert m.stat("l/file").is_other
    m.delete("l/file")
    m.delete_tree("l/dir")
    assert not m.exists("l/dir")
    assert m.get("in/f")[0] == b"inside"


def test_follow(base: Path) -> None:
    m = mount(base, symlinks="follow")
    for path in (*INSIDE, *OUTSIDE):
        assert m.get(path)[0].endswith(b"side")
    m.put("l/out/new/x", b"1")
    m.put("l/outfile", b"2")
    assert (base.parent / "outside/new/x").read_bytes() == b"1"
    assert (base.parent / "outside/f").read_bytes() == b"2"
    assert (base / "l/outfile").is_symlink()
    assert m.stat("l/out").is_dir
    assert m.stat("l/nowhere").is_other
    with pytest.raises(StorageNotFoundError):
        m.get("l/nowhere")
    m.delete("l/out")
    assert (base.parent / "outside/f").exists()


def test_roots_that_are_links(base: Path) -> None:
    """A relative mount begins where a link leads, and is held there; a link out of the base is no root at all."""
    m = mount(base)
    inside = Mount("i", m.backend.rooted("l/chain"))
    assert inside.get("f")[0] == b"inside"
    assert inside.stat("").is_dir
    assert [entry.path for page in inside.scan("") for entry in page] == ["f"]
    inside.put("d/x", b"1")
    assert (base / "in/d/x").read_bytes() == b"1"
    for root in ("l/out", "l/outchain", "l/circle"):
        out = Mount("o", m.backend.rooted(root))
        for verb in (lambda: out.get("f"), lambda: out.put("g", b"1"), lambda: list(out.scan(""))):  # noqa: B023
            with pytest.raises(StoragePermissionError):
                verb()
    assert os.listdir(base.parent / "outside") == ["f"]


def test_links_stay_below_a_root(base: Path) -> None:
    """R23: what may be followed ends at the relative mount's own root, not at its parent's base."""
    (base / "in/sub").mkdir()
    (base / "in/sub/up").symlink_to("../../l")
    (base / "in/sub/beside").symlink_to("../f")
    (base / "in/sub/own").symlink_to("deep")
    (base / "in/sub/deep").mkdir()
    m = mount(base)
    assert m.get("in/sub/beside")[0] == b"inside"
    for root in ("in/sub", "l/dir/sub"):
        below = Mount("b", m.backend.rooted(root))
        for path in ("up/file", "beside"):
            with pytest.raises(StoragePermissionError, match="leads out of the mount"):
                below.get(path)
        below.put("own/x", b"1")
        assert below.get("deep/x")[0] == b"1"
        assert below.stat("beside").is_other


def test_making_links(base: Path) -> None:
    """The text is relative, whatever links lie on the way to it; a target above the root is refused."""
    m = mount(base)
    m.symlink("l/new", "in/f")
    assert os.readlink(base / "l/new") == "../in/f"
    m.symlink("l/dir/through", "in/f")
    assert os.readlink(base / "in/through") == "f"
    assert m.get("l/dir/through")[0] == b"inside"
    below = m.backend.rooted("in")
    below.symlink("one", "f")
    assert below.get("one")[0] == b"inside"
    with pytest.raises(StoragePathError):
        below.symlink("two", "../l/file")
    with pytest.raises(StoragePathError, match="not a symbolic link"):
        m.readlink("in/f")
    m.put("l/nowhere2", b"")


def test_the_base_itself_may_be_a_link(base: Path) -> None:
    (base.parent / "link").symlink_to(base)
    m = mount(base.parent / "link")
    assert m.get("l/absolute/f")[0] == b"inside"
    assert m.backend.native_path("x") == str(base / "x")


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_never_opened(base: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed as neither file nor directory; reading, replacing, appending are refused at once, and not by opening."""
    monkeypatch.chdir(base)
    if kind == "fifo":
        os.mkfifo("odd")
    else:
        socket.socket(socket.AF_UNIX).bind("odd")
    (base / "l/odd").symlink_to("../odd")
    m = mount(base)
    listed = {entry.path: entry for page in m.scan("") for entry in page}
    assert (listed["odd"].is_other, listed["odd"].is_file, listed["odd"].is_dir) == (True, False, False)
    opened: list[object] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *args, **keys: opened.append(path) or real(path, *args, **keys))
    for path in ("odd", "l/odd"):
        assert m.stat(path).is_other
        for verb in (m.get, m.reader, m.writer, lambda path: m.put(path, b"1"), lambda p: m.backend.edit(p, "a")):
            with pytest.raises(UnsupportedOperation, match="never opened"):
                verb(path)
    assert not [path for path in opened if str(path).endswith("odd")]
    m.delete("odd")
    assert not m.exists("odd")


@contextmanager
def swapping(place: Path, outside: Path) -> Iterator[None]:
    """Another thread that turns `place` from a directory into a link to `outside` and back, each in one step."""
    stop = threading.Event()
    other = place.with_name(f"{place.name}-other")
    other.symlink_to(outside)
    exchange = (-100, os.fsencode(place), -100, os.fsencode(other), 2)
    rename = ctypes.CDLL(None).renameat2
    turns = []

    def swap() -> None:
        while not stop.is_set():
            turns.append(rename(*exchange) + rename(*exchange))

    thread = threading.Thread(target=swap)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert turns
    assert not any(turns)


HOSTILE: dict[str, Callable[[Mount, int], object]] = {
    "get": lambda m, n: m.get("d/e/f")[0],
    "reader": lambda m, n: m.reader("d/e/f").read(),
    "stat": lambda m, n: b"inside" if m.stat("d/e/f").size == 6 else b"outside",
    "scan": lambda m, n: b"inside" if "d/e/f" in {e.path for page in m.scan("d/e") for e in page} else b"outside",
    "put": lambda m, n: m.put(f"d/e/{n}", b"1"),
    "replace": lambda m, n: m.put("d/e/f", b"inside"),
    "edit": lambda m, n: m.backend.edit(f"d/e/{n}", "a").close(),
    "mkdir": lambda m, n: m.mkdir(f"d/e/{n}"),
    "delete": lambda m, n: (m.put("d/e/victim", b"1"), m.delete("d/e/victim")),
    "rename": lambda m, n: (m.put("x", b"1"), m.rename_from(m, "x", f"d/e/{n}")),
    "copy": lambda m, n: m.copy_from(m, "d/e/f", f"copy{n}"),
    "symlink": lambda m, n: m.symlink(f"d/e/{n}", "d"),
    "set_mode": lambda m, n: m.use("set_mode", "d/e/f", 0o600),
    "set_mtime": lambda m, n: m.set_mtime("d/e/f", 5.0),
    "rooted": lambda m, n: m.backend.rooted("d/e").get("f")[0],
}


@pytest.mark.parametrize("verb", HOSTILE)
def test_a_directory_swapped_for_a_link(tmp_path: Path, verb: str) -> None:
    """Whatever moment the swap comes: nothing outside is read, made, changed or removed."""
    for folder, text in (("base/d/e", "inside"), ("outside/e", "outside, longer")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "f").write_text(text)
    secret = tmp_path / "outside/e"
    (secret / "victim").write_text("outside, longer")
    before = {entry.name: (entry.stat().st_mtime_ns, entry.stat().st_mode) for entry in os.scandir(secret)}
    m = mount(tmp_path / "base")
    done, refused = 0, 0
    with swapping(tmp_path / "base/d", tmp_path / "outside"):
        for number in range(ROUNDS):
            if number > 200 and min(done, refused) > 10:
                break
            try:
                result = HOSTILE[verb](m, number)
            except OSError:  # raw, or of our tree, which is refined from it
                refused += 1
                continue
            done += 1
            assert result == b"inside" or not isinstance(result, bytes), result
    now = {entry.name: (entry.stat().st_mtime_ns, entry.stat().st_mode) for entry in os.scandir(secret)}
    assert now == before
    assert sorted(os.listdir(tmp_path / "outside")) == ["e"]
    for copied in (tmp_path / "base").glob("copy*"):
        assert copied.read_text() == "inside"
    assert done, "it must also have worked now and then"
    assert refused, "and have met the link"
