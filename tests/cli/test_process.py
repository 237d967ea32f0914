"""The command as a process: exit codes, signals, pipes, closed and full streams, the terminal, how fast it starts."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager, __version__
from genro_storage.cli import app
from genro_storage.cli.app import Interrupts
from genro_storage.journal import rows
from genro_storage.records.sqlite import SQLiteRecordStore
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .conftest import Run, Space, cloud, command

Configure = Callable[[list[dict[str, Any]]], Path]
MIB = 1 << 20


def interruptible() -> None:
    """In the child: Ctrl-C works, even where the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(*arguments: str | Path, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command under way; it is ended by its id if the test leaves it behind."""
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *command()[1:], *map(str, arguments)],
        preexec_fn=how.pop("before", interruptible),
        **how,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object]) -> None:
    """Waits for something that another process does."""
    limit = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.01)


def feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Writes more than a pipe holds (64 KiB), so that the command is known to be reading."""
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        process.stdin.flush()
    except BrokenPipeError:
        pytest.fail(f"it ended: {process.communicate()}")


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code; a command that hangs says where."""
    try:
        return process.wait(90)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"it hangs: {process.communicate()[1].decode()}")


# --- exit codes ---


def test_exit_codes(process: Run, here: Path, configured: Configure) -> None:
    (here / "file").write_text("x")
    (here / "dir").mkdir()
    configured([{"name": "ro", "type": "local", "path": str(here), "permissions": "readonly"}])
    assert process("ls", ".") == (0, "dir/\nfile\n", "")
    assert process("--version") == (0, f"genro-storage {__version__}\n", "")
    assert process("mkdir", "dir").code == 1
    assert process("ls", "--nonsense").code == 2
    assert process("cat", "none").code == 3
    assert process("cat", "nomount:x").code == 3
    assert process("touch", "ro:new").code == 4
    assert process("--config", "none.toml", "ls").code == 5
    assert process("hash", "--check", "-", input=b"0" * 64 + b"  file\n") == (6, "file: FAILED\n", "")
    assert process("rm", "-r", "dir").code == 7
    assert process("check", "dir", "dir").code == 0
    (here / "other").mkdir()
    (here / "other/extra").write_text("x")
    assert process("check", "dir", "other").code == 6
    assert process("sync", "--delete", "dir", "other").code == 7
    assert process("sync", "--delete", "-y", "dir", "other").code == 7, "an empty source empties nothing"
    assert (here / "other/extra").exists()
    assert process("url", "file").code == 4
    assert process("sessions", "list", "--mount", "memory").code == 5
    assert process("rm", "none", "dir").code == 1, "failures of two kinds"


# --- signals ---


SIGNALS = pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["int", "term"],
)


@SIGNALS
@pytest.mark.parametrize("old", [None, b"old bytes"], ids=["new", "over"])
def test_a_store_that_is_interrupted_leaves_nothing(
    space: Space, tmp_path: Path, request: pytest.FixtureRequest, number: int, code: int, told: str, old: bytes | None
) -> None:
    if old is not None:
        space.node("x.bin").write_bytes(old)
    with started("cp", "-", space.name("x.bin")) as process:
        feed(process, bytes(20 * MIB))
        process.send_signal(number)
        assert ended(process) == code
        assert process.stderr is not None
        assert process.stderr.read().decode() == f"genro-storage: {told}\n"
    assert space.files() == ([] if old is None else ["x.bin"])
    if old is not None:
        assert space.node("x.bin").read_bytes() == old
    if space.kind == "disk":
        assert os.listdir(tmp_path / "disk/space") == ([] if old is None else ["x.bin"])
    if space.kind == "cloud":
        server, bucket = request.getfixturevalue("seaweedfs"), space.node("x").mount.backend.options.bucket
        assert b"<UploadId>" not in server.checked("GET", bucket, query={"uploads": ""}).body


@SIGNALS
def test_a_tree_that_is_interrupted_leaves_whole_files(
    here: Path, configured: Configure, seaweedfs: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy],
    number: int, code: int, told: str,
) -> None:  # fmt: skip
    proxy, bucket = s3_proxy(seaweedfs), seaweedfs.make_bucket()
    (here / "tree").mkdir()
    for name in range(300):
        (here / "tree" / str(name)).write_text(f"content {name}")
    configured([{"name": "cloud", "type": "s3", **seaweedfs.through(proxy.endpoint).options(bucket)}])
    proxy.rtt = 0.1
    with started("cp", "-r", "tree", "cloud:tree") as process:
        until(lambda: proxy.count("PUT") > 20)
        proxy.rtt = 2.0  # it is not over before the signal comes
        process.send_signal(number)
        out, err = process.communicate(timeout=90)
        goes_on = f"genro-storage: {told}; the same command goes on from here\n"
        assert (process.returncode, out, err.decode()) == (code, b"", goes_on)
    with StorageManager([{"name": "c", "type": "s3", **seaweedfs.options(bucket)}]) as storage:
        copied = storage.node("c:tree").children()
        assert 0 < len(copied) < 300
        assert [node.basename for node in copied if node.read_text() != f"content {node.basename}"] == []


@SIGNALS
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_large_file_that_is_interrupted_leaves_nothing(
    here: Path, configured: Configure, seaweedfs: S3Endpoint, way: str, number: int, code: int, told: str
) -> None:
    """As a limit holds it up, both ways in parts."""
    bucket = seaweedfs.make_bucket()
    configured([{"name": "cloud", "type": "s3", **seaweedfs.options(bucket)}])
    with StorageManager([{"name": "c", "type": "s3", **seaweedfs.options(bucket)}]) as storage:
        (here / "big").write_bytes(bytes(48 * MIB))
        (here / "old").write_text("old bytes")
        if way == "down":
            storage.node("c:big").write_from((here / "big").open("rb"))
        names = ("big", "cloud:big") if way == "up" else ("cloud:big", "old")
        with started("cp", "--no-resume", "--bandwidth", "4MiB/s", *names) as process:
            if way == "up":
                until(lambda: b"<UploadId>" in seaweedfs.checked("GET", bucket, query={"uploads": ""}).body)
            else:
                until(lambda: len(os.listdir(here)) > 2)
            time.sleep(0.5)
            process.send_signal(number)
            _, err = process.communicate(timeout=90)
            assert (process.returncode, err.decode()) == (code, f"genro-storage: {told}\n")
        assert storage.node("c:big").exists == (way == "down")
    assert b"<UploadId>" not in seaweedfs.checked("GET", bucket, query={"uploads": ""}).body
    assert (sorted(os.listdir(here)), (here / "old").read_text()) == (["big", "old"], "old bytes")


@pytest.mark.parametrize("how", ["--resume", "--no-resume"])
def test_the_same_command_goes_on_after_a_kill(
    here: Path, tmp_path: Path, process: Run, configured: Configure,
    seaweedfs: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy], how: str,
) -> None:  # fmt: skip
    proxy, bucket, state = s3_proxy(seaweedfs), seaweedfs.make_bucket(), tmp_path / "home/.local/state/genro_storage"
    (here / "tree").mkdir()
    for name in range(300):
        (here / "tree" / str(name)).write_text(f"content {name}")
    configured([{"name": "cloud", "type": "s3", **seaweedfs.through(proxy.endpoint).options(bucket)}])
    proxy.rtt = 0.1
    with started("cp", "-r", how, "tree", "cloud:tree") as killed:
        until(lambda: proxy.count("PUT") > 40)
        proxy.rtt = 2.0  # it is not over before it is killed
        if how == "--resume":
            with closing(SQLiteRecordStore(str(state / "journal.sqlite")).sync) as journal:
                until(lambda: [job for job in journal.scan(rows.JOBS) if journal.scan(rows.done_space(job.key))])
        killed.kill()
        assert ended(killed) == -signal.SIGKILL
    proxy.rtt = 0
    before = proxy.count("PUT")
    assert before < 300
    ran = process("--json", "cp", "-r", how, "tree", "cloud:tree")
    assert (ran.code, ran.report["files_copied"], ran.report["resumed"]) == (0, 300, how == "--resume")
    assert (proxy.count("PUT") - before < 300) == (how == "--resume")
    assert state.exists() == (how == "--resume")
    assert process("check", "tree", "cloud:tree").code == 0
    assert process("--json", "cp", "-r", how, "tree", "cloud:tree").report["resumed"] is False, (
        "what is done is forgotten"
    )


def test_a_signal_that_a_parent_ignores_stays_ignored(here: Path) -> None:
    """``nohup`` and jobs in the background."""
    with started("cp", "-", "x", before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as process:
        feed(process, bytes(MIB))
        process.send_signal(signal.SIGINT)
        process.communicate(b"end", timeout=90)
        assert process.returncode == 0
    assert (here / "x").stat().st_size == MIB + 3


def test_the_same_signal_twice_does_not_disturb_and_a_later_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    now = [100.0]
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr("genro_storage.cli.app.time.monotonic", lambda: now[0])
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert (interrupts.code, left) == (143, [])
        now[0] += app.PATIENCE + 0.1
        signal.raise_signal(signal.SIGINT)
        assert left == [143]
    assert signal.getsignal(signal.SIGTERM) == before


# --- pipes and streams ---


@pytest.mark.parametrize(
    "arguments",
    [["cat", "big"], ["ls"], ["--json", "ls"], ["tree"], ["--help"], ["--json", "cp", "-r", ".", "../copy"]],
)
def test_a_reader_that_goes_away(here: Path, arguments: list[str]) -> None:
    (here / "big").write_bytes(bytes(MIB))
    for number in range(3000):
        (here / f"a-file-with-a-longer-name-{number}").touch()
    read, write = os.pipe()
    with started(*arguments, stdout=write) as process:
        os.close(write)
        if arguments != ["--help"]:
            os.read(read, 10)
        os.close(read)
        assert ended(process) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_everything(here: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    data = bytes(range(256)) * 8192
    (here / "big").write_bytes(data)
    with started("cat", "big") as process:
        assert process.stdout is not None
        got = b"".join(iter(lambda: os.read(process.stdout.fileno(), 1000), b""))  # type: ignore[union-attr]
        assert (ended(process), got == data) == (0, True)


@pytest.mark.parametrize("arguments", [["ls"], ["--json", "ls"], ["cat", "file"], ["--help"], ["--version"]])
def test_an_output_that_is_full(process: Run, here: Path, arguments: list[str]) -> None:
    (here / "file").write_text("x")
    with open("/dev/full", "wb") as full:
        ran = process(*arguments, stdout=full)
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "No space left on device: standard input or output" in ran.err


@pytest.mark.parametrize(("descriptor", "code"), [(0, 0), (1, 0), (2, 0)])
def test_a_closed_stream_is_no_crash(process: Run, here: Path, descriptor: int, code: int) -> None:
    (here / "file").write_text("x")
    for arguments in (["ls"], ["cp", "file", f"copy{descriptor}"], ["cat", "file"]):
        assert process(*arguments, preexec_fn=lambda: os.close(descriptor)).code == code
    assert (here / f"copy{descriptor}").read_text() == "x"
    assert process("cat", "none", preexec_fn=lambda: os.close(descriptor)).code == 3
    stored = process("cp", "-", "stored", preexec_fn=lambda: os.close(descriptor))
    assert (stored.code, (here / "stored").exists()) == ((2, False) if descriptor == 0 else (0, True))


# --- a terminal ---


class Terminal:
    """The other end of a terminal: what is shown so far, and the keyboard."""

    def __init__(self) -> None:
        self.keyboard, self.end = pty.openpty()
        self.shown = ""

    def wait_for(self, text: str) -> None:
        limit = time.monotonic() + 90
        while text not in self.shown:
            assert time.monotonic() < limit, self.shown
            self.take()

    def take(self, seconds: float = 0.1) -> bool:
        """Reads what is there; False if there was nothing for a while."""
        if not select.select([self.keyboard], [], [], seconds)[0]:
            return False
        try:
            self.shown += os.read(self.keyboard, 65536).decode()
        except OSError:  # the other end is closed
            return False
        return True

    def type(self, text: str) -> None:
        os.write(self.keyboard, text.encode())


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    for descriptor in (terminal.keyboard, terminal.end):
        os.close(descriptor)


@pytest.fixture
def slow(
    here: Path, configured: Configure, seaweedfs: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy]
) -> FaultProxy:
    """A tree of 40 files, and the mount ``cloud`` that is far away."""
    (here / "tree").mkdir()
    for name in range(40):
        (here / "tree" / str(name)).write_bytes(bytes(2048))
    proxy = s3_proxy(seaweedfs)
    configured([{"name": "cloud", **cloud(seaweedfs.through(proxy.endpoint))}])
    proxy.rtt = 0.15
    return proxy


def test_progress_on_a_terminal(slow: FaultProxy, terminal: Terminal) -> None:
    with started("cp", "-r", "tree", "cloud:tree", stderr=terminal.end) as process:
        terminal.wait_for("/40 files")
        slow.rtt = 0
        assert ended(process) == 0
        while terminal.take():
            pass
        assert process.stdout is not None
        assert process.stdout.read().decode().startswith(f"copy {Path.cwd()}/tree → cloud:tree: 40 files")
    lines = terminal.shown.split("\r\x1b[K")
    assert lines[0] == ""
    assert all(len(line) < 80 for line in lines)
    full = r"cp  ━*─*  +\d+%  \d+/40 files  [0-9.]+ [KM]?i?B/80\.0 KiB  [0-9.]+ [KM]?i?B/s  0:\d\d(, 0:\d\d left)?"
    assert [line for line in lines[1:-1] if not re.match(r"cp  ", line)] == []
    assert any("━" in line and re.fullmatch(rf"{full}(  \S+)?", line) for line in lines), lines
    assert terminal.shown.endswith("\r\x1b[K"), "the line goes away"
    assert "\n" not in terminal.shown


def test_lines_and_progress_on_one_terminal(slow: FaultProxy, terminal: Terminal, process: Run) -> None:
    slow.rtt = 0
    assert process("cp", "-r", "tree", "cloud:tree").code == 0
    for name in range(0, 40, 4):
        Path("tree", str(name)).write_text("changed")
        Path("tree", f"new{name}").write_text("x" * 2048)
    slow.rtt = 0.3
    with started("check", "tree", "cloud:tree", stdout=terminal.end, stderr=terminal.end) as checking:
        terminal.wait_for("/50 files")
        slow.rtt = 0
        assert ended(checking) == 6
    while terminal.take():
        pass
    shown = [line.rpartition("\r\x1b[K")[2] for line in terminal.shown.split("\r\n")]
    told = [f"differs: {name}" for name in range(0, 40, 4)] + [
        f"only in the first: new{name}" for name in range(0, 40, 4)
    ]
    assert sorted(shown[:-2]) == sorted(told)
    assert shown[-2].startswith("compare ")


@pytest.mark.parametrize("silent", [["--no-progress"], ["-q"], ["--json"]])
def test_no_progress_where_it_is_not_wanted(slow: FaultProxy, terminal: Terminal, silent: list[str]) -> None:
    with started(*silent, "cp", "-r", "tree", "cloud:tree", stderr=terminal.end) as process:
        assert ended(process) == 0
    terminal.take()
    assert terminal.shown == ""


def test_no_progress_without_a_terminal(slow: FaultProxy, process: Run) -> None:
    assert process("cp", "-r", "tree", "cloud:tree").err == ""


def test_an_interrupted_progress_line_goes_away_too(slow: FaultProxy, terminal: Terminal) -> None:
    slow.rtt = 0.5
    with started("cp", "-r", "tree", "cloud:tree", stderr=terminal.end) as process:
        terminal.wait_for("files")
        process.send_signal(signal.SIGINT)
        assert ended(process) == 130
    while terminal.take():
        pass
    assert terminal.shown.endswith("\r\x1b[Kgenro-storage: interrupted; the same command goes on from here\r\n")


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("YES\n", 0), ("\n", 7), ("n\n", 7), ("nyes\n", 7), ("\x04", 7), ("\x03", 130)]
)
def test_rm_asks_on_a_terminal(here: Path, terminal: Terminal, answer: str, code: int) -> None:
    (here / "gone").mkdir()
    (here / "gone/file").write_text("x")

    def before() -> None:
        interruptible()
        os.setsid()  # so that the terminal becomes ours, and Ctrl-C comes to us
        os.close(os.open(os.ttyname(terminal.end), os.O_RDWR))

    with started("rm", "-r", "gone", stdin=terminal.end, stderr=terminal.end, before=before) as process:
        terminal.wait_for("Delete 'gone' and everything below? [y/N] ")
        assert (here / "gone/file").exists()
        terminal.type(answer)
        assert ended(process) == code
    assert (here / "gone").exists() == (code != 0)


# --- how it starts ---


def loaded(*arguments: str) -> set[str]:
    code = "import sys; from genro_storage.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


def test_a_start_loads_only_what_it_needs(here: Path) -> None:
    (here / "file").touch()
    version = loaded("--version")
    assert {name for name in version if name.startswith("genro_storage")} == {
        *("genro_storage", "genro_storage.exceptions", "genro_storage.cli"),
        *(f"genro_storage.cli.{name}" for name in ("app", "console", "failures", "places", "session")),
    }
    slow = {"logging", "dataclasses", "json", "random", "tempfile", "shutil", "difflib", "hashlib"}
    assert (slow | {"argparse", "msgspec", "fsspec", "asyncio", "inspect", "datetime"}).isdisjoint(version)
    heavy = {"fsspec", "asyncio", "s3fs", "ssl", "yaml", "sqlite3", "email", "genro_storage.backends.memory"}
    parts = {f"genro_storage.{name}" for name in ("records", "sessions", "journal", "tempfiles", "virtual")}
    listing = loaded("ls", ".")
    assert (heavy | parts | slow | {"secrets", "pickle", "genro_storage.transfer"}).isdisjoint(listing)
    assert (heavy | parts).isdisjoint(loaded("cp", "file", "copy"))


def seconds(line: list[str]) -> float:
    """The processor's time for a whole process: what a quiet machine takes for it, also on a loaded one."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_a_start_is_quick(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    lines = [[sys.executable, "-c", "pass"], [*command(), "--version"], [*command(), "ls"]]
    for line in lines:
        seconds(line)  # byte-compiled once
    rounds = [[seconds(line) for line in lines] for _ in range(9)]
    bare, version, ls = (statistics.median(times) for times in zip(*rounds, strict=True))
    assert version <= 3 * bare + 0.05
    assert ls <= 5 * bare + 0.05


# --- the main job ---


def test_a_thousand_real_files_through_the_command(
    here: Path, process: Run, configured: Configure, seaweedfs: S3Endpoint
) -> None:
    from tests.test_journey import FILES, facts, real_files

    configured([{"name": "cloud", **cloud(seaweedfs)}])
    (here / "real").mkdir()
    real_files(here / "real")
    before = facts(here / "real")
    assert len(before) == FILES
    for source, target in (("real", "cloud:a/b"), ("cloud:a/b", "back")):
        report = process("--json", "cp", "-r", source, target).report
        assert (report["files_copied"], report["files_failed"], report["ok"]) == (FILES, 0, True)
    assert facts(here / "back") == before
