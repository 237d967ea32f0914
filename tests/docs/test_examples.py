"""The third-party backends of docs/howto/backend.rst: they are short, and pass the suites that they show."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from genro_storage import StorageManager, StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from tests.servers.sshd import Sshd

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
sys.path.insert(0, str(EXAMPLES))

import test_json_records  # noqa: E402
import test_sqlite_backend  # noqa: E402
from ssh_backend import SshBackend, SshOptions  # noqa: E402
from test_ssh_backend import TestSshBackend  # noqa: E402, F401 - collected here

MOST_LINES = 60


class TestSqliteBackend(test_sqlite_backend.TestSqliteBackend):
    """Each of its writes waits for the disk: fewer of them than `memory` and `local` are given."""

    many = 150
    payloads = 60


class TestJsonRecords(test_json_records.TestJsonRecords):
    """Each commit writes its whole file anew: fewer histories than the stores of the package are put through."""

    examples = 20


def test_it_is_short() -> None:
    files = ("sqlite_backend.py", "test_sqlite_backend.py")
    code = [line for file in files for line in (EXAMPLES / file).read_text().splitlines() if line.strip()]
    assert len(code) <= MOST_LINES


def test_one_over_fsspec_is_short() -> None:
    """Options, class and all that they need."""
    code = [line for line in (EXAMPLES / "ssh_backend.py").read_text().splitlines() if line.strip()]
    assert len(code) <= MOST_LINES


def test_the_one_over_fsspec_is_a_type_like_any_other(sshd: Sshd) -> None:
    keys = sshd.options(sshd.make_root())
    with StorageManager() as storage:
        storage.register_backend_type("ssh", SshBackend)
        storage.configure([{"name": "far", "type": "ssh", **keys}, {"name": "m", "type": "memory"}])
        storage.node("m:d/f").write("there and back")
        assert storage.node("m:d").copy_to("far:d").child("f").copy_to("m:g").read() == "there and back"
        assert storage.get_backend("far").fs.cat_file(f"{keys['path']}/d/f") == b"there and back"


def test_the_one_over_fsspec_trusts_no_unknown_server(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    keys = sshd.options(sshd.make_root()) | {"known_hosts": str(tmp_path / "none")}
    with closing(SshBackend(SshOptions(**keys))) as backend, pytest.raises(StorageUnavailableError, match="its key is"):
        Mount("m", backend, retry=NO_RETRY).get("f")
