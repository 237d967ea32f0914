"""Samba, driven by smbprotocol."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest
import smbclient
from smbprotocol.exceptions import SMBOSError

from tests.servers.samba import Samba

LOGON_FAILURE, ACCESS_DENIED, NAME_INVALID = 0xC000006D, 0xC0000022, 0xC0000033


@pytest.fixture
def keys(samba: Samba) -> Iterator[dict[str, Any]]:
    """What every smbclient call takes; its connections are its own."""
    cache: dict[str, Any] = {}
    told = samba.options("/")
    yield {name: told[name] for name in ("port", "username", "password")} | {"connection_cache": cache}
    smbclient.reset_connection_cache(connection_cache=cache)


@pytest.fixture
def root(samba: Samba) -> str:
    return samba.make_root()


def unc(root: str, share: str = Samba.share) -> str:
    return rf"\\127.0.0.1\{share}" + root.replace("/", "\\")


def write(path: str, data: bytes, mode: str = "wb", **keys: Any) -> None:
    with smbclient.open_file(path, mode=mode, **keys) as file:
        file.write(data)


def test_files_are_those_of_the_folder(samba: Samba, keys: dict[str, Any], root: str) -> None:
    data = os.urandom(3 << 20)
    write(unc(root) + r"\ü b", data, **keys)
    assert samba.files(root) == {"ü b": data}
    (samba.local(root) / "witness").write_bytes(b"123")
    found = {entry.name: entry.smb_info.end_of_file for entry in smbclient.scandir(unc(root), **keys)}
    assert found == {"ü b": len(data), "witness": 3}


def test_what_the_facts_in_the_docstring_say(samba: Samba, keys: dict[str, Any], root: str) -> None:
    a, b, d = (rf"{unc(root)}\{name}" for name in "abd")
    write(a, b"1", **keys)
    write(b, b"2", **keys)
    smbclient.mkdir(d, **keys)
    write(d + r"\x", b"", **keys)
    for code, call in (
        (errno.EEXIST, lambda: write(a, b"", "xb", **keys)),
        (errno.EEXIST, lambda: smbclient.rename(a, b, **keys)),
        (errno.ENOENT, lambda: smbclient.stat(a + "no", **keys)),
        (errno.EISDIR, lambda: smbclient.remove(d, **keys)),
        (errno.ENOTEMPTY, lambda: smbclient.rmdir(d, **keys)),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == code
    with pytest.raises(SMBOSError) as invalid:
        write(f"{a}:b", b"", **keys)
    assert (invalid.value.errno, invalid.value.ntstatus) == (0, NAME_INVALID)
    smbclient.replace(a, b, **keys)
    assert samba.files(root) == {"b": b"1", "d/x": b""}
    assert smbclient.stat(rf"{unc(root)}\B", **keys).st_size == 1
    smbclient.utime(b, times=(1, 1.75), **keys)
    assert smbclient.stat(b, **keys).st_mtime_ns == 1_750_000_000


def test_who_may(samba: Samba, keys: dict[str, Any], root: str) -> None:
    with pytest.raises(SMBOSError) as refused:
        write(unc(root, samba.readonly_share) + r"\k", b"", **keys)
    assert refused.value.ntstatus == ACCESS_DENIED
    assert samba.options(root, readonly=True)["share"] == samba.readonly_share
    with pytest.raises(SMBOSError) as wrong:
        smbclient.listdir(unc(root), **(keys | {"password": "wrong", "connection_cache": {}}))
    assert wrong.value.ntstatus == LOGON_FAILURE
    with pytest.raises(ValueError, match="Failed to connect"):
        smbclient.listdir(unc(root), **(keys | {"port": 1}))


def test_encryption(keys: dict[str, Any], root: str) -> None:
    assert smbclient.register_session("127.0.0.1", encrypt=True, **keys).encrypt_data
    write(unc(root) + r"\k", b"secret", **keys)
