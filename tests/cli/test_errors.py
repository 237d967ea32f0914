"""What goes wrong is told in one clear sentence that names the place and the remedy; nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage.backends import _localfile
from genro_storage.cli.console import Console
from genro_storage.cli.reports import tell
from genro_storage.exceptions import StorageQuotaError
from genro_storage.transfer.report import KEPT_FAILURES, TransferReport
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3 import S3Endpoint

from .conftest import Ran, Run, cloud

Configure = Callable[[list[dict[str, Any]]], Path]


def told(ran: Ran, code: int, *words: str) -> None:
    """One line on stderr, without a traceback, that holds these words."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert len(ran.err.splitlines()) == 1, ran.err
    assert ran.err.startswith("genro-storage: ")
    assert [word for word in words if word not in ran.err] == [], ran.err


# --- configuration ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[data\n", ["genro_storage.toml", "line 1"]),
        ('[data]\npath = "x"\n', ["mount 'data'", "missing required field: 'protocol' or 'type'"]),
        ('[data]\ntype = "s33"\nbucket = "b"\n', ["mount 'data'", "Unknown storage type 's33'"]),
        ('[data]\ntype = "s3"\n', ["mount 'data'", "missing required field: 'bucket'"]),
        ('[data]\ntype = "s3"\nbuckt = "b"\n', ["mount 'data'", "did you mean 'bucket'?"]),
        ('[data]\ntype = "local"\npath = "gone"\n', ["mount 'data'", "'gone' does not exist; make it, or say"]),
        ('[data]\ntype = "local"\npath = "${NOT_SET}"\n', ["data", "'path'", "variable 'NOT_SET' is not set"]),
        ('[data]\ntype = "local"\npath = "."\npermissions = "all"\n', ["mount 'data'", "Invalid permissions 'all'"]),
        ('[data]\npath = "other:x"\n', ["mount 'data'", "Parent mount 'other' not found"]),
        ('["da:ta"]\ntype = "local"\npath = "."\n', ["'da:ta'", "not a mount name"]),
    ],
)
def test_a_bad_configuration(here: Path, cli: Run, content: str, words: list[str]) -> None:
    (here / "genro_storage.toml").write_text(content)
    for arguments in (["ls", "data:"], ["mounts"], ["--config", "genro_storage.toml", "ls", "."]):
        ran = cli(*arguments)
        told(ran, 3 if "gone" in content else 5, *words)
    assert cli("ls", ".").code == 0, "local files need no configuration"


def test_a_configuration_that_is_missing(here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told(cli("--config", "none.toml", "ls", "m:"), 5, "configuration file not found: none.toml")
    told(cli("--config", "none.ini", "ls", "m:"), 5, "none.ini", ".toml, .yaml")
    monkeypatch.setenv("GENRO_STORAGE_CONFIG", "none.json")
    told(cli("ls", "m:"), 5, "configuration file not found: none.json")


def test_the_configuration_given_goes_before_the_one_found(here: Path, cli: Run, configured: Configure) -> None:
    configured([{"name": "found", "type": "memory"}])
    (here / "given.json").write_text('{"given": {"type": "memory"}, "local": {"type": "memory"}}')
    mounts = {mount["name"]: mount["type"] for mount in cli("--json", "--config", "given.json", "mounts").objects}
    assert mounts == {"local": "memory", "home": "local", "temp": "temp", "memory": "memory", "given": "memory"}
    assert "found" in cli("mounts").out


def test_a_missing_driver(here: Path, tmp_path: Path, process: Run, configured: Configure) -> None:
    fake = tmp_path / "fake"
    fake.mkdir()
    for name in ("s3fs", "aiobotocore", "botocore", "yaml"):
        (fake / f"{name}.py").write_text(f'raise ModuleNotFoundError("No module named {name!r}", name="{name}")')
    configured([{"name": "cloud", "type": "s3", "bucket": "b"}])
    environment = os.environ | {"PYTHONPATH": f"{fake}{os.pathsep}{os.environ['PYTHONPATH']}"}
    remedy = "pip install 'genro-storage[s3]'"
    told(process("ls", "cloud:", env=environment), 5, "mount 'cloud'", "'s3' needs", remedy)
    told(process("ls", "s3://bucket/x", env=environment), 5, "'s3' needs", remedy)
    (here / "c.yaml").write_text("a: 1\n")
    told(process("--config", "c.yaml", "ls", env=environment), 5, "c.yaml", "pip install 'genro-storage[yaml]'")


def test_an_unknown_mount(here: Path, cli: Run) -> None:
    told(cli("ls", "memry:x"), 3, "Mount point 'memry' not found", "local, home, temp, memory. Did you mean 'memory'?")
    (here / "a:b").write_text("x")
    told(cli("cat", "a:b"), 3, "Mount point 'a' not found", "For the local file write './a:b'")
    assert cli("cat", "./a:b").out == "x"


def test_mounts_are_shown_without_their_secrets(cli: Run, configured: Configure) -> None:
    keys = {"bucket": "b", "access_key": "AKID", "secret_key": "very-secret", "path": "pre/fix"}
    configured([{"name": "cloud", "type": "s3", "permissions": "readonly", **keys}])
    ran = cli("mounts")
    assert ran.code == 0
    line = next(line for line in ran.out.splitlines() if line.startswith("cloud"))
    assert line.split()[:3] == ["cloud", "s3", "readonly"]
    assert "secret_key=***" in line
    assert "very-secret" not in ran.out + cli("--json", "mounts").out + cli("-vv", "mounts").out


def test_mounts_are_shown_by_what_is_not_the_default(cli: Run, configured: Configure) -> None:
    """Every option, and what none of them says, would hide it."""
    cloud = {"name": "cloud", "type": "s3", "bucket": "b", "path": "pre/fix", "verify_tls": False}
    talks = {"name": "talks", "type": "sessions", "path": "s.db", "session_ttl": "1d"}
    configured([cloud, talks, {"name": "scratch", "type": "temp", "permission_mask": "0640"}])
    told = {line.split()[0]: line.split()[3:] for line in cli("mounts").out.splitlines()}
    assert told["cloud"] == ["b/pre/fix/", "bucket=b", "verify_tls=False"]
    assert told["talks"] == ["path=s.db", "session_ttl=86400.0"]
    assert told["scratch"][1:] == ["permission_mask=0640"]
    whole = {one["name"]: one["options"] for one in cli("--json", "mounts").objects}
    assert (whole["cloud"]["timeout"], whole["talks"]["context_versions"]) == (60.0, 10)
    assert "UNSET" not in str(whole)


# --- many files that fail alike ---


def test_a_full_disk_is_told_once(cli: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one sentence with how many files it hit; other failures by each, and objects for a program all."""
    (here / "src").mkdir()
    for number in range(5):
        (here / "src" / str(number)).write_text("x" * (1 + number))
    write = _localfile.write_all

    def full(fd: int, data: bytes) -> int:
        if len(data) == 1:
            return write(fd, data)
        raise OSError(errno.EACCES if len(data) == 3 else errno.ENOSPC, "no")

    monkeypatch.setattr(_localfile, "write_all", full)
    ran = cli("cp", "-r", "src", "dst")
    assert ran.code == 1
    place = f"{here}/dst"
    assert ran.err.splitlines() == [
        f"genro-storage: No space left; free some and try again: '{place}/1', and 2 more files for the same reason",
        f"genro-storage: Permission denied: '{place}/2'",
    ]
    objects = [json.loads(line) for line in cli("--json", "cp", "-r", "src", "dst").err.splitlines()]
    assert [one["error"] for one in objects].count("StorageQuotaError") == 3
    assert os.listdir(here / "dst") == ["0"]


def test_more_failures_than_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    report = TransferReport("copy", "a:", "b:", "")
    for number in range(KEPT_FAILURES + 1):
        report.fail(str(number), "copy", StorageQuotaError("full: 'b:x'", mount="b", path="x"))
    assert tell(Console(quiet=True), report) == 1
    assert capsys.readouterr().err == "genro-storage: full: 'b:x', and 999 more files for the same reason at least\n"


# --- paths ---


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["cat", "none"], 3, ["No such file", "/none'"]),
        (["ls", "none/deeper"], 3, ["No such", "/none/deeper'"]),
        (["cp", "none", "x"], 3, ["Source not found", "/none'"]),
        (["cp", "file/below", "x"], 1, ["Not a directory", "/file/below'"]),
        (["cat", "dir"], 1, ["Is a directory", "/dir'"]),
        (["cp", "-r", "dir", "file"], 1, ["a directory cannot replace a file", "/file'"]),
        (["cp", "file", "file/below"], 1, ["Not a directory", "/file/below'"]),
        (["mkdir", "file"], 1, ["xists", "/file'"]),
        (["cp", "file", "x" * 300], 1, ["The name is too long"]),
        (["cat", "memory:a/../b"], 2, ["Parent directory traversal"]),
        (["ls", "file://host/x"], 2, ["a file URL names no host; a local file is written '/path'"]),
        (["ls", "s3://"], 5, ["names no host or bucket"]),
        (["tree", "file"], 1, ["Not a directory", "/file'"]),
    ],
)
def test_a_wrong_path(here: Path, cli: Run, arguments: list[str], code: int, words: list[str]) -> None:
    (here / "file").write_text("x")
    (here / "dir").mkdir()
    told(cli(*arguments), code, *words)


def test_names_that_no_path_can_express_are_noted(here: Path, cli: Run, configured: Configure) -> None:
    (here / "a\\b").touch()
    (here / "c").touch()
    configured([{"name": "here", "type": "local", "path": str(here)}])
    ran = cli("ls", "here:")
    assert (ran.code, ran.out) == (0, "c\n")
    assert ran.err.startswith("genro-storage: warning: 1 names below 'here:' cannot be written as a path")
    assert cli("--json", "ls", "here:").err.startswith('{"note": "warning: 1 names')
    assert cli("-q", "ls", "here:").err == ""
    assert cli("ls").out == "a\\b\nc\n"


def test_a_read_only_mount(here: Path, cli: Run, configured: Configure) -> None:
    (here / "f").write_text("x")
    configured([{"name": "ro", "type": "local", "path": str(here), "permissions": "readonly"}])
    configured([
        {"name": "ro", "type": "local", "path": str(here), "permissions": "readonly"},
        {"name": "rw", "type": "local", "path": str(here), "permissions": "readwrite"},
    ])  # fmt: skip
    remedy = "see its 'permissions'"
    told(cli("cp", "f", "ro:g"), 4, "allows 'readonly'", remedy, "'ro:g'")
    told(cli("mv", "rw:f", "g"), 4, "allows 'readwrite' and this needs 'delete'", remedy, "'rw:f'")
    told(cli("rm", "rw:f"), 4, remedy, "'rw:f'")
    told(cli("cp", "-", "ro:g", stdin=b"x"), 4, remedy)
    assert sorted(os.listdir(here)) == ["f"]


def test_a_current_directory_that_was_deleted(tmp_path: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for path in (".", "x", "memory:x"):
        told(cli("ls", path), 2, "the current directory was deleted; go to another one")
    assert cli("ls", tmp_path / "home") == (0, "", "")


def test_a_directory_that_cannot_be_read_does_not_end_a_tree(
    here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genro_storage.backends.local import LocalStorage

    for name in ("a", "b", "c"):
        (here / name).mkdir()
        (here / name / "file").touch()
    scan = LocalStorage.scan

    def denied(self: Any, path: str, **how: Any) -> Any:
        if path.endswith("/b"):
            raise PermissionError(13, "denied")
        return scan(self, path, **how)

    monkeypatch.setattr(LocalStorage, "scan", denied)
    ran = cli("tree")
    assert (ran.code, ran.out.count("file\n")) == (4, 2)
    assert ran.err == f"genro-storage: Permission denied: '{here}/b'\n"


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path, here: Path) -> Iterator[tuple[Path, str]]:
    """A disk of 1 MiB, and what is said when it is full; two files here are too big for it.

    Where it cannot be made, this process may not write longer files.
    """
    for name in ("big", "tree/big"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(bytes(3 << 20))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield disk, "No space left; free some and try again"
        finally:
            subprocess.run(["umount", disk], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield disk, "The file is too large for this file system"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk(small_disk: tuple[Path, str], here: Path, cli: Run, configured: Configure) -> None:
    disk, why = small_disk
    configured([{"name": "disk", "type": "local", "path": str(disk)}])
    (disk / "old").write_text("old")
    for target in ("old", "new"):
        told(cli("cp", "big", f"disk:{target}"), 1, f"{why}: 'disk:{target}'")
        told(cli("cp", "-", f"disk:{target}", stdin=bytes(3 << 20)), 1, f"{why}: 'disk:{target}'")
    told(cli("mv", "big", "disk:old"), 1, f"{why}: 'disk:old'")
    ran = cli("cp", "-r", "tree", "disk:tree")
    assert (ran.code, ran.err) == (1, f"genro-storage: {why}: 'disk:tree/big'\n")
    assert (here / "big").stat().st_size == 3 << 20, "what could not be moved stays"
    assert (disk / "old").read_text() == "old"
    assert [path.name for path in disk.rglob("*") if path.is_file()] == ["old"]


# --- a dead endpoint ---


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def test_a_dead_endpoint(closed_port: int, here: Path, cli: Run, configured: Configure) -> None:
    endpoint = f"http://127.0.0.1:{closed_port}"
    keys = {"bucket": "b", "endpoint": endpoint, "access_key": "k", "secret_key": "very-secret"}
    configured([{"name": "dead", "type": "s3", **keys, "retries": 0, "connect_timeout": 1}])
    (here / "f").write_text("x")
    (here / "d").mkdir()
    (here / "d/f").write_text("x")
    began = time.monotonic()
    for arguments in (
        *[["ls", "dead:x"], ["cat", "dead:x"], ["stat", "dead:x"], ["cp", "--retries", "0", "f", "dead:x"]],
        *[["cp", "--retries", "0", "dead:x", "g"], ["rm", "dead:x"], ["mv", "--retries", "0", "f", "dead:"]],
    ):
        told(cli(*arguments), 1, "dead:", endpoint)
    told(cli("cp", "-", "dead:x", stdin=b"x"), 1, "dead:x", endpoint)
    ran = cli("cp", "-r", "--retries", "0", "d", "dead:d")
    assert (ran.code, endpoint in ran.err, "very-secret" in ran.err) == (1, True, False)
    assert time.monotonic() - began < 60  # one second each, and what the machine takes
    assert sorted(os.listdir(here)) == ["d", "f"]


def test_an_endpoint_that_never_answers(
    here: Path, cli: Run, configured: Configure, seaweedfs: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy]
) -> None:
    proxy = s3_proxy(seaweedfs)
    proxy.blackhole(times=None)
    entry = cloud(seaweedfs) | {"endpoint": proxy.endpoint, "retries": 0, "timeout": 0.5}
    configured([{"name": "slow", **entry}])
    told(cli("cat", "slow:x"), 1, "no answer in time: 'slow:x'")


def test_wrong_credentials(cli: Run, configured: Configure, seaweedfs: S3Endpoint) -> None:
    configured([{"name": "c", **cloud(seaweedfs), "secret_key": "wrong-and-secret"}])
    ran = cli("ls", "c:")
    told(ran, 4, "'c:'")
    assert "wrong-and-secret" not in ran.err


def test_errors_as_objects(here: Path, cli: Run) -> None:
    ran = cli("--json", "cat", "none", "memory:none")
    first, second = (json.loads(line) for line in ran.err.splitlines())
    assert (ran.code, ran.out) == (3, "")
    assert first["message"] == f"No such file or directory: '{here}/none'"
    assert (second["error"], second["mount"], second["path"], second["exit"]) == (
        *("StorageNotFoundError", "memory", "none", 3),
    )


def test_what_nobody_foresaw_is_a_sentence_too(here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **how: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("genro_storage.cli.verbs.listing._entries", broken)
    told(cli("ls"), 1, "internal error, ZeroDivisionError: oh; -vv shows where it happened")
