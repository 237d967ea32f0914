"""T32 with T47: which sources cost a look after they were read, and that the look which is spared is not missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from genro_storage import transfer
from genro_storage.backends._ssh import SshFile, words
from genro_storage.backends.sftp import SftpBackend
from genro_storage.mount import Mount
from genro_storage.types import STEADY
from tests.servers.sshd import Sshd

from .trees import at, files

NAMES = [f"d/{number}" for number in range(5)]


@pytest.fixture
def sftp(sshd: Sshd) -> Iterator[Mount]:
    with closing(SftpBackend(SftpBackend.Options(**sshd.options(sshd.make_root())))) as backend:
        mount = Mount("s", backend)
        for name in NAMES:
            mount.put(name, name.encode())
        yield mount


def looks(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files below `d` that somebody asks about by their names."""
    found: list[str] = []
    stat = type(mount.backend).stat

    def told(self: Any, path: str, **more: Any) -> Any:
        found.append(path)
        return stat(self, path, **more)

    monkeypatch.setattr(type(mount.backend), "stat", told)
    return found


def test_sftp_tells_with_the_bytes_that_they_are_one_state(
    sftp: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files, and what goes in one stream: no look by name for any of them."""
    for path in (*NAMES, "d/0"):
        assert sftp.get(path)[1].hashes is STEADY
    with closing(sftp.reader("d/0")) as reader:
        assert reader.stat.hashes is STEADY
    asked = looks(sftp, monkeypatch)
    transfer.copy(at(sftp, "d"), at(memory, "e"))
    assert files(memory) == {f"e/{name[2:]}": name.encode() for name in NAMES}
    assert not set(asked) & set(NAMES)


def test_a_file_that_changes_while_sftp_reads_it(sftp: Mount, memory: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look by the handle sees it, then that by the name; the next try gets the new state."""
    asked = looks(sftp, monkeypatch)
    answer, times = SshFile._answer, [1]

    def grown(self: Any, *chunk: Any) -> bytes:
        data = answer(self, *chunk)
        if times and times.pop():
            with closing(sftp.backend.edit("d/0", "a")) as editor:
                editor.write(b", and more")
        return data

    def asked_late(self: Any, start: int, stop: int) -> Iterator[bytes]:
        yield from read(self, start, stop)
        if self._after is not None:  # as if the server had come to it only now
            self._answers.wait(self._after)
            self._after = self._answers.ask(words.CMD_FSTAT, self._handle)

    read = SshFile.read
    monkeypatch.setattr(SshFile, "_answer", grown)
    monkeypatch.setattr(SshFile, "read", asked_late)
    report = transfer.copy(at(sftp, "d/0"), at(memory, "e"))
    assert (report.retries, memory.get("e")[0]) == (1, b"d/0, and more")
    assert "d/0" in asked
