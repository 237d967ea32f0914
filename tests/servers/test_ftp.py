"""The FTP servers, driven by ftplib."""

from __future__ import annotations

import ftplib
import io
import os
import ssl
from collections.abc import Iterator

import pytest

from tests.servers.ftp import Ftp


def connect(server: Ftp, username: str = Ftp.username, password: str = Ftp.password) -> ftplib.FTP:
    client = ftplib.FTP()
    try:
        client.connect("127.0.0.1", server.port, 5)
        client.login(username, password)
    except BaseException:
        client.close()
        raise
    return client


@pytest.fixture
def client(ftp: Ftp) -> Iterator[ftplib.FTP]:
    made = connect(ftp)
    yield made
    made.close()


def put(client: ftplib.FTP, path: str, data: bytes) -> None:
    client.storbinary(f"STOR {path}", io.BytesIO(data))


def test_files_are_those_of_the_folder(ftp: Ftp, client: ftplib.FTP) -> None:
    root, data = ftp.make_root(), os.urandom(300_000)
    put(client, f"{root}/ü b", data)
    assert ftp.files(root) == {"ü b": data}
    (ftp.local(root) / "d").mkdir()
    found = {name: facts["type"] for name, facts in client.mlsd(root, ["type"])}
    assert found == {"ü b": "file", "d": "dir"}
    assert {name: facts["size"] for name, facts in client.mlsd(root, ["size"])}["ü b"] == "300000"
    received: list[bytes] = []
    client.retrbinary(f"RETR {root}/ü b", received.append, rest=299_990)
    assert b"".join(received) == data[-10:]
    assert ftp.options(root) == {
        "host": "127.0.0.1",
        "port": ftp.port,
        "username": ftp.username,
        "password": ftp.password,
        "path": root,
    }


def test_what_the_facts_in_the_docstring_say(ftp: Ftp, client: ftplib.FTP) -> None:
    root = ftp.make_root()
    put(client, f"{root}/a", b"1")
    put(client, f"{root}/b", b"2")
    client.voidcmd("TYPE A")
    with pytest.raises(ftplib.error_perm, match="550 SIZE not allowed in ASCII mode"):
        client.size(f"{root}/b")
    for said, call in (
        ("550 No such file", lambda: client.sendcmd(f"MLST {root}/no")),
        ("550 File exists", lambda: client.mkd(root)),
        ("550 Directory not empty", lambda: client.rmd(root)),
        ("550 Is a directory", lambda: client.delete(root)),
        ("501 No such directory", lambda: list(client.mlsd(f"{root}/a"))),
        ("554", lambda: client.retrbinary(f"RETR {root}/a", print, rest=9)),
    ):
        with pytest.raises(ftplib.error_perm, match=said):
            call()
    client.rename(f"{root}/a", f"{root}/b")
    assert ftp.files(root) == {"b": b"1"}
    client.sendcmd(f"MFMT 20010203040506 {root}/b")
    assert client.sendcmd(f"MDTM {root}/b") == "213 20010203040506"


def test_who_may(ftp: Ftp) -> None:
    with pytest.raises(ftplib.error_perm, match="530"):
        connect(ftp, password="wrong")
    for name in (ftp.reader, "anonymous"):
        reading = connect(ftp, name)
        with pytest.raises(ftplib.error_perm, match="550 Not enough privileges"):
            put(reading, "/k", b"")
        assert isinstance(reading.nlst("/"), list)
        reading.close()


def test_tls(ftps: Ftp) -> None:
    with pytest.raises(ftplib.error_perm, match="TLS required"):
        connect(ftps)
    careful = ftplib.FTP_TLS(context=ssl.create_default_context())
    careful.connect("127.0.0.1", ftps.port, 5)
    with pytest.raises(ssl.SSLCertVerificationError):
        careful.login(ftps.username, ftps.password)
    careful.close()
    trusting = ftplib.FTP_TLS(context=ssl.create_default_context(cafile=str(ftps.cert_file)))
    trusting.connect("127.0.0.1", ftps.port, 5)
    trusting.login(ftps.username, ftps.password)
    with pytest.raises(ftplib.error_perm, match="TLS required on the data channel"):
        trusting.nlst("/")
    trusting.prot_p()
    root = ftps.make_root()
    put(trusting, f"{root}/k", b"secret")
    trusting.close()
    assert ftps.files(root) == {"k": b"secret"}
    assert ftps.options(root)["tls"] is True
