"""The types behind a network as one table: for each a place of its own on a real server, filled, behind a proxy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

import botocore.auth
import pytest
from google.auth import _helpers
from paramiko import sftp as sftp_words
from smbprotocol.connection import Commands, Connection

from genro_storage import StorageManager
from genro_storage.backends import _ssh
from genro_storage.backends._azure import client as azure_client
from genro_storage.backends._s3 import plain
from genro_storage.backends.ftp import FtpSession
from genro_storage.backends.smb import SmbSession
from genro_storage.backends.webdav import WebDavBackend
from tests.servers.azure import AzureEndpoint
from tests.servers.caddy import Caddy
from tests.servers.faultproxy import FaultProxy
from tests.servers.folder import FolderServer
from tests.servers.ftp import Ftp
from tests.servers.gcs.authority import Authority
from tests.servers.gcs.server import GcsServer
from tests.servers.github import API, GitHubServer
from tests.servers.gitrepo import GitRepository
from tests.servers.process import HOST
from tests.servers.s3 import S3Endpoint
from tests.servers.samba import Samba
from tests.servers.sshd import Sshd
from tests.servers.tcpproxy import FtpProxy, TcpProxy
from tests.servers.webdav import WebDav

FILES = {"d/f": b"12345", "d/g": b"6", "d/sub/h": b"7"}
"""What every place holds at first."""

Keys = dict[str, Any]


class Place:
    """A root of its own that holds FILES, reached by its port: the server's own one, or that of a proxy before it.

    A subclass is one row of the table; what a type cannot have, it lacks the method for.
    """

    type: ClassVar[str]
    fixture: ClassVar[str]
    """Of the server, in `tests.servers.fixtures`."""
    writes: ClassVar[bool] = True
    last: ClassVar[tuple[type, str] | None] = None
    """The driver's method that gives a new file its name, where it was sent under a hidden one."""
    proxy: Any

    def __init__(self, server: Any) -> None:
        self.server = server
        self.port: int = int(server.endpoint.rpartition(":")[2].partition("/")[0]) if self.is_http() else server.port
        self._stack = ExitStack()

    @classmethod
    def is_http(cls) -> bool:
        return True

    def __enter__(self) -> Self:
        self.make()
        self.proxy = self._stack.enter_context(self.made_proxy())
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def made_proxy(self) -> Any:
        return FaultProxy(f"http://{HOST}:{self.port}")

    @property
    def proxy_port(self) -> int:
        return int(self.proxy.endpoint.rpartition(":")[2]) if self.is_http() else self.proxy.port

    def at(self, port: int) -> str:
        """The URL of a server at this port."""
        return f"http://{HOST}:{port}"

    def make(self) -> None:
        """Makes the root and what is in it; by a mount, where the type writes."""
        self.begin()
        with self.mounted(self.port) as manager:
            for path, data in FILES.items():
                manager.node(f"m:{path}").write_bytes(data)

    def mounted(self, port: int, keys: Keys | None = None, **more: Any) -> StorageManager:
        """A manager with the place as the mount `m`, which tries nothing twice."""
        given = self.keys(port) if keys is None else keys
        return StorageManager([{"name": "m", "type": self.type, "retries": 0, **given, **more}])

    def begin(self) -> None:
        """Makes the empty root."""
        raise NotImplementedError

    def keys(self, port: int) -> Keys:
        """The keys of a mount entry that reaches the root by this port."""
        raise NotImplementedError

    def wrong(self) -> Keys:
        """The same with credentials that are none."""
        raise NotImplementedError

    def counting(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
        """From now on requests through the proxy are counted; gives what tells them, by kind."""
        self.proxy.forget()
        return lambda: Counter(request.method for request in self.proxy.log)

    # --- faults; of a listing they spoil the second page, or the second directory where there are no pages ---

    second = ""
    """What only the request for the second page has in its URL."""

    def mute(self) -> None:
        """From now on the proxy takes what is sent, and says nothing."""
        self.proxy.blackhole(times=None)

    def deny_listing(self) -> None:
        self.proxy.answer(403, "AccessDenied", contains=self.second)

    def fail_listing(self) -> None:
        self.proxy.answer(503, "SlowDown", contains=self.second)

    def cut_listing(self) -> None:
        self.proxy.truncate(150)

    def deny_write(self) -> None:
        self.proxy.answer(403, "AccessDenied", method="PUT")

    def cut_write(self) -> None:
        self.proxy.reset_upload(100_000, method="PUT")


class S3(Place):
    type, fixture = "s3", "seaweedfs"
    second = "continuation-token"
    server: S3Endpoint

    def begin(self) -> None:
        self.bucket = self.server.make_bucket()

    def keys(self, port: int) -> Keys:
        return self.server.through(self.at(port)).options(self.bucket)

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"secret_key": "wrong-secret"}

    def readonly(self) -> Keys:
        """By a proxy that says what a bucket's policy would."""
        for method in ("PUT", "POST", "DELETE"):
            self.proxy.answer(403, "AccessDenied", method=method, times=None)
        return self.keys(self.proxy_port)


class ExactS3(S3):
    """By the path whose clock can be set: obstore has none that a test reaches."""

    def keys(self, port: int) -> Keys:
        return super().keys(port) | {"engine": "exact"}

    def set_clock(self, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
        for module, name in ((botocore.auth, "get_current_datetime"), (plain, "clock")):
            now = getattr(module, name)
            monkeypatch.setattr(module, name, lambda now=now: now() + timedelta(hours=hours))


class Gcs(Place):
    type, fixture = "gcs", "gcs"
    second = "pageToken"
    server: GcsServer

    def begin(self) -> None:
        self.bucket = self.server.make_bucket()

    def keys(self, port: int) -> Keys:
        return self.server.options(self.bucket) | {"endpoint": self.at(port)}

    def wrong(self) -> Keys:
        """A key that the server of access tokens does not know."""
        return self.keys(self.port) | {"credentials": Authority().account(self.server.endpoint)}

    def set_clock(self, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
        now = _helpers.utcnow
        monkeypatch.setattr(_helpers, "utcnow", lambda: now() + timedelta(hours=hours))

    def readonly(self) -> Keys:
        self.server.bucket(self.bucket).access = "readonly"
        return self.keys(self.port)


class Azure(Place):
    type, fixture = "azure", "azurite"
    second = "marker="
    server: AzureEndpoint

    def begin(self) -> None:
        self.container = self.server.make_container()

    def keys(self, port: int) -> Keys:
        return self.server.through(self.at(port)).options(self.container)

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"account_key": "d3Jvbmcta2V5"}

    def readonly(self) -> Keys:
        """A shared access signature that allows to read and to list."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        keys = self.keys(self.port)
        sas = generate_container_sas(
            self.server.account_name,
            self.container,
            keys.pop("account_key"),
            permission=ContainerSasPermissions(read=True, list=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        return keys | {"sas_token": sas}


class DatedAzure(Azure):
    """The server that judges the date of a request."""

    fixture = "azure_versions"

    def set_clock(self, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
        told = azure_client.formatdate
        monkeypatch.setattr(azure_client, "formatdate", lambda usegmt: told(time.time() + hours * 3600, usegmt=usegmt))


class Folder(Place):
    """Places whose server shows a folder of this machine."""

    server: FolderServer

    def begin(self) -> None:
        self.root = self.server.make_root()

    def local(self, path: str = "") -> Path:
        """Where a path is on this machine."""
        return self.server.local(self.root) / path


class Wire(Folder):
    """Places that do not speak HTTP."""

    @classmethod
    def is_http(cls) -> bool:
        return False

    def made_proxy(self) -> TcpProxy:
        return TcpProxy(self.port)

    def mute(self) -> None:
        self.proxy.silence()

    # Nobody in between can read what they say.
    deny_listing = fail_listing = deny_write = None  # type: ignore[assignment]

    def cut_write(self) -> None:
        """When nothing of it is sent yet but the name: the bytes go at the end."""
        self.proxy.cut(after=3)

    def cut_listing(self) -> None:
        """In a long one."""
        for number in range(2000):
            (self.local("d") / f"{number:04}{'-' * 100}").touch()
        self.proxy.cut(after=100_000)


class Sftp(Wire):
    type, fixture = "sftp", "sshd"
    session = _ssh.SshSession
    last = _ssh.SshSession, "rename"

    def counting(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
        """By the client's own door: nobody in between can read them."""
        sent: Counter[str] = Counter()
        asked = _ssh.Client._async_request

        def counted(client: Any, of: Any, kind: int, *args: Any) -> int:
            sent[sftp_words.CMD_NAMES[kind].upper()] += 1
            number: int = asked(client, of, kind, *args)
            return number

        monkeypatch.setattr(_ssh.Client, "_async_request", counted)
        return lambda: sent

    server: Sshd

    def keys(self, port: int) -> Keys:
        known = {} if port == self.port else {"host_keys": "ignore"}  # known hosts are known by their port
        return self.server.options(self.root) | {"port": port} | known

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"key_file": str(self.server.other_key_file)}

    def guarded(self) -> Keys:
        return self.keys(self.port) | {"username": self.server.guest}

    def readonly(self) -> Keys:
        """By the port behind which the server takes no changes."""
        return self.keys(self.server.readonly_port) | {"host_keys": "ignore"}


class Smb(Wire):
    type, fixture = "smb", "samba"
    session = SmbSession
    last = SmbSession, "rename"

    def counting(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
        """By the client's own door, as it does to sftp."""
        sent: Counter[str] = Counter()
        names = {number: name for name, number in vars(Commands).items() if name.startswith("SMB2_")}
        send = Connection._send

        def counted(connection: Any, messages: Any, *args: Any, **keys: Any) -> Any:
            sent.update(names[message.COMMAND].removeprefix("SMB2_") for message in messages)
            return send(connection, messages, *args, **keys)

        monkeypatch.setattr(Connection, "_send", counted)
        return lambda: sent

    server: Samba

    def keys(self, port: int) -> Keys:
        return self.server.options(self.root) | {"port": port}

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"password": "wrong-secret"}

    def guarded(self) -> Keys:
        return self.keys(self.port) | {"share": self.server.guarded_share}

    def readonly(self) -> Keys:
        return dict(self.server.options(self.root, readonly=True))


class FtpPlace(Wire):
    type, fixture = "ftp", "ftp"
    last = FtpSession, "rename"
    server: Ftp
    proxy: FtpProxy

    def made_proxy(self) -> FtpProxy:
        return FtpProxy(self.port)

    def counting(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
        self.proxy.log.clear()
        return lambda: Counter(self.proxy.log)

    def keys(self, port: int) -> Keys:
        return self.server.options(self.root) | {"port": port}

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"password": "wrong-secret"}

    def readonly(self) -> Keys:
        return self.keys(self.port) | {"username": self.server.reader}

    def deny_listing(self) -> None:
        self.proxy.answer("MLSD", "550 Permission denied.", skip=1)

    def fail_listing(self) -> None:
        self.proxy.answer("MLSD", "425 Cannot open data connection.", skip=1)

    def cut_listing(self) -> None:
        """Before it is said to be whole."""
        self.proxy.cut(after=60)

    def deny_write(self) -> None:
        self.proxy.answer("RNTO", "550 Permission denied.")


class Dav(Folder):
    type, fixture = "webdav", "webdav"
    second = "/d/sub"
    last = WebDavBackend, "_land"
    server: WebDav

    def deny_write(self) -> None:
        self.proxy.answer(403, method="MOVE")

    def keys(self, port: int) -> Keys:
        return self.server.options(self.root) | {"url": self.at(port)}

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"password": "wrong-secret"}

    def readonly(self) -> Keys:
        return self.keys(self.port) | {"path": f"/readonly{self.root}"}


class Web(Folder):
    """The type http: read-only, listed by its pages."""

    type, fixture = "http", "caddy"
    second = "/d/sub"
    writes = False
    deny_write = cut_write = None  # type: ignore[assignment]
    server: Caddy

    def make(self) -> None:
        self.begin()
        for path, data in FILES.items():
            self.local(path).parent.mkdir(exist_ok=True, parents=True)
            self.local(path).write_bytes(data)

    def keys(self, port: int) -> Keys:
        told = {"username": self.server.username, "password": self.server.password}
        return {"base_url": f"{self.at(port)}/basic{self.root}", "index": "html", **told}

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"password": "wrong-secret"}


class GitHub(Place):
    type, fixture = "github", "github"
    second = "/git/trees"
    writes = False
    deny_write = cut_write = None  # type: ignore[assignment]
    server: GitHubServer

    def make(self) -> None:
        self.name = self.server.make_repo(make=_committed)

    def keys(self, port: int) -> Keys:
        return self.server.options(self.name) | {"endpoint": f"{self.at(port)}{API}", "token": self.server.token}

    def wrong(self) -> Keys:
        return self.keys(self.port) | {"token": "wrong-secret"}


def _committed(folder: Path) -> GitRepository:
    made = GitRepository(folder)
    made.commit(FILES)
    return made


TABLE: tuple[type[Place], ...] = (S3, Gcs, Azure, Sftp, Smb, FtpPlace, Dav, Web, GitHub)


DATED: tuple[type[Place], ...] = (ExactS3, Gcs, DatedAzure)
"""What signs the time: S3 and Azure each request, Google the question for a token. The others tell nobody a time."""


def opened(row: type[Place], server: Any) -> Iterator[Place]:
    """The place for as long as a fixture lives."""
    with row(server) as place:
        yield place
