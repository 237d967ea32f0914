"""`call`, `spawn`, `arg`: programs on files of any mount."""

from __future__ import annotations

import contextvars
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageError, StorageManager, StorageNode, StorageNotFoundError, StoragePermissionError
from tests.servers.process import ServerMissing
from tests.servers.running import miss


@pytest.fixture(params=["memory", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageManager]:
    (tmp_path / "m").mkdir()
    inner: dict[str, Any] = (
        {"type": "memory"} if request.param == "memory" else {"type": "local", "path": str(tmp_path / "m")}
    )
    mounts = {
        "m": inner,
        "ro": {"path": "m:", "permissions": "readonly"},
        "temp": {"type": "temp", "base_dir": str(tmp_path)},
    }
    with StorageManager(mounts) as manager:
        yield manager


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", f"import sys; {code}"


UPPER = python("t = open(sys.argv[1]).read().upper(); open(sys.argv[2], 'w').write(t); print('done')")


def test_a_program_reads_one_node_and_writes_another(storage: StorageManager) -> None:
    source, target = storage.node("m:d/in.txt"), storage.node("m:new/out file.txt")
    source.write("hello")
    before = source.stat()
    assert source.call(*UPPER, source.arg("r"), target.arg("w"), return_output=True) == "done\n"
    assert target.read() == "HELLO"
    assert source.stat() == before
    assert source.call(*UPPER, source, source) is None
    assert source.read() == "HELLO"


def test_cat_changes_nothing(storage: StorageManager) -> None:  # R17
    node = storage.node("m:f")
    node.write("text")
    before = node.stat()
    for place in (node, storage.node("ro:f")):
        assert place.call("cat", place, return_output=True) == "text"
    assert node.stat() == before
    with pytest.raises(subprocess.CalledProcessError) as caught:
        node.call("cat", storage.node("m:missing"), return_output=True)
    assert caught.value.returncode != 0
    with pytest.raises(StorageNotFoundError):
        node.call("cat", storage.node("ro:missing"))
    with pytest.raises(StoragePermissionError):
        node.call("cat", storage.node("ro:f").arg("rw"))
    assert [child.name for child in storage.node("m:").children()] == ["f"]


def test_a_failure_stores_nothing(storage: StorageManager) -> None:
    node = storage.node("m:f")
    called: list[int] = []
    if node.resolved_path is None:  # a local mount gives the file itself
        node.write("old")
        with pytest.raises(subprocess.CalledProcessError):
            node.call(
                *python("open(sys.argv[1], 'w').write('x'); sys.exit(3)"), node, callback=lambda: called.append(1)
            )
        assert node.read() == "old"
    with pytest.raises(FileNotFoundError):
        node.call("no-such-program-anywhere", callback=lambda: called.append(1))
    with pytest.raises(subprocess.TimeoutExpired):
        node.call(*python("import time; time.sleep(60)"), timeout=0.2)
    with pytest.raises(ValueError, match="a program to run"):
        node.call()
    assert called == []


def test_callback_comes_after_the_bytes_are_stored(storage: StorageManager) -> None:
    node = storage.node("m:f")
    seen: list[Any] = []
    node.call(*python("open(sys.argv[1], 'w').write('x')"), node.arg("w"), callback=lambda: seen.append(node.read()))
    assert seen == ["x"]


def test_no_shell_unless_asked(storage: StorageManager) -> None:
    node = storage.node("m:a b;c$(x).txt")
    node.write("b\na\nb\n")
    assert node.call("echo", "$HOME; ls", return_output=True) == "$HOME; ls\n"
    assert node.call("sort", "-u", node, "|", "wc -l", shell=True, return_output=True).strip() == "2"  # type: ignore[union-attr]


def test_a_whole_folder_of_a_local_mount(storage: StorageManager) -> None:
    root = storage.node("m:")
    if root.resolved_path is not None:
        (root / "f").write("x")
        assert root.call("ls", root, return_output=True) == "f\n"


def test_a_snapshot_is_only_read(tmp_path: Path) -> None:
    mounts = {"m": {"type": "memory", "versioned": True}, "temp": {"type": "temp", "base_dir": str(tmp_path)}}
    with StorageManager(mounts) as manager:
        node = manager.node("m:f")
        node.write("old")
        node.write("new")
        assert node.call("cat", node.at(0), return_output=True) == "old"
        assert len(node.versions) == 2


def test_arg_modes(storage: StorageManager) -> None:
    node = storage.node("m:f")
    assert node.arg().mode == "rw"
    with pytest.raises(ValueError, match="'wb'"):
        node.arg("wb")


def test_spawn(storage: StorageManager) -> None:
    node, out = storage.node("m:f"), storage.node("m:out")
    node.write("abc")
    assert node.spawn(*UPPER, node.arg("r"), out.arg("w"), return_output=True).result(30) == "done\n"
    assert out.read() == "ABC"
    with pytest.raises(subprocess.CalledProcessError):
        node.spawn(*python("sys.exit(1)")).result(30)


def test_a_failure_in_the_background_is_reported(
    storage: StorageManager, caplog: pytest.LogCaptureFixture
) -> None:  # R39
    node = storage.node("m:f")
    told, done = [], threading.Event()

    def report(error: BaseException) -> None:
        told.append(error)
        done.set()

    assert node.call(*python("sys.exit(7)"), async_mode=True, on_error=report) is None
    assert done.wait(30)
    assert isinstance(told[0], subprocess.CalledProcessError)
    assert told[0].returncode == 7

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record)
            done.set()

    done.clear()
    logger, handler = logging.getLogger("genro_storage.process"), Heard()
    logger.addHandler(handler)
    try:
        node.call("cat", storage.node("ro:missing"), async_mode=True)
        assert done.wait(30)
    finally:
        logger.removeHandler(handler)
    assert told[1].levelno == logging.ERROR
    assert isinstance(told[1].exc_info[1], StorageError)


def test_the_background_sees_the_callers_context(storage: StorageManager) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="no")
    variable.set("mine")
    seen: list[str] = []
    node: StorageNode = storage.node("m:f")
    node.spawn(*python("pass"), callback=lambda: seen.append(variable.get())).result(30)
    assert seen == ["mine"]


def test_imagemagick(storage: StorageManager) -> None:
    if not shutil.which("convert"):
        miss(ServerMissing("ImageMagick: install it with the system's packages"))
    picture, small = storage.node("m:a picture.ppm"), storage.node("m:small/picture.ppm")
    picture.write_bytes(b"P6 4 4 255\n" + bytes(range(48)))
    picture.call("convert", picture.arg("r"), "-resize", "50%", small.arg("w"))
    assert small.read_bytes().split()[:3] == [b"P6", b"2", b"2"]
