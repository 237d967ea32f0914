"""A directory of an FTP server, over TLS if asked: files that appear whole, names told apart by MLST."""

from __future__ import annotations

import errno
import ftplib
import os
import re
import select
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ClassVar

from ..exceptions import (
    StorageError,
    StorageIsADirectoryError,
    StoragePathError,
    StoragePermissionError,
    StorageQuotaError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..types import Features, Stat
from ._fsspec import Spool
from ._pool import Refused, Session, shrunk
from ._server import ServerStorage
from .options import NetworkOptions, Secret

BLOCK = 256 << 10
PATIENCE = 2.0
"""Seconds for the answer to a transfer that is broken off."""
_FULL = ("452", "552")
_LOGIN = ("530", "332", "532")
_UNKNOWN = ("500", "502", "504")
_DENIED = re.compile("denied|privilege|permission|permitted|not allowed|forbidden", re.IGNORECASE)
"""What 550 says of what is forbidden, and does not say of what is not there."""


class FtpOptions(NetworkOptions, frozen=True, kw_only=True):
    """`tls`: explicit TLS (RFC 4217) for commands and data; the certificate is verified."""

    host: str
    port: int = 21
    username: str = "anonymous"
    password: Secret = Secret("")
    tls: bool = False


class FtpsOptions(FtpOptions, frozen=True, kw_only=True):
    """The same with TLS, unless told otherwise."""

    tls: bool = True


class FtpFile:
    """A file that is read; its connection can do nothing else meanwhile."""

    def __init__(self, session: FtpSession, native: str, stat: Stat) -> None:
        self.stat = stat
        self._session, self._native = session, native
        self._data: socket.socket | None = None

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        left = stop - start
        if left <= 0:
            return
        with self._session.told():
            self._data = self._session.ftp.transfercmd(f"RETR {self._native}", start or None)
            while left:
                piece = self._data.recv(min(BLOCK, left))
                if not piece:
                    raise shrunk()
                left -= len(piece)
                yield piece
            if stop == self.stat.size:
                if self._data.recv(1):
                    raise shrunk()
                self._finish()

    def _finish(self) -> None:
        data, self._data = self._data, None
        assert data is not None
        data.close()
        self._session.ftp.voidresp()

    def settled(self) -> Stat:
        return self.stat  # the protocol knows no open files to ask about

    def close(self) -> None:
        """The server answers to a transfer that is broken off, sooner or later; if later, the connection goes."""
        if self._data is None:
            return
        self._data.close()
        self._session.hear_out()


class FtpSession:
    """One control connection."""

    def __init__(self, ftp: ftplib.FTP) -> None:
        self.ftp = ftp

    def alive(self) -> bool:
        """Nothing to read: a server that closes an idle connection says so, or ends it."""
        sock = self.ftp.sock
        return sock is not None and not select.select([sock], [], [], 0)[0]

    def close(self) -> None:
        self.ftp.close()

    def abandon(self) -> None:
        sock = self.ftp.sock
        if sock is not None:
            with suppress(OSError):
                os.close(sock.detach())

    def hear_out(self) -> None:
        """Takes the answer to what was broken off."""
        sock = self.ftp.sock
        assert sock is not None
        sock.settimeout(PATIENCE)
        try:
            with suppress(ftplib.Error):  # that it was broken off
                self.ftp.voidresp()
            sock.settimeout(self.ftp.timeout)
        except (OSError, EOFError):
            self.close()

    def told(self) -> Told:
        return Told()

    def _do(self, command: str, native: str) -> str:
        with self.told():
            return self.ftp.sendcmd(f"{command} {native}")

    def look(self, native: str, path: str) -> Stat:
        try:
            answer = self._do("MLST", native)
        except Refused:
            raise FileNotFoundError(native) from None
        facts, _, _ = answer.splitlines()[1].strip().partition("; ")
        return described(path, dict(fact.lower().partition("=")[::2] for fact in facts.split(";")))

    def listing(self, native: str, prefix: str) -> list[Stat]:
        with self.told():
            with self.ftp.transfercmd(f"MLSD {native}") as data:
                raw = b"".join(iter(lambda: data.recv(BLOCK), b""))
            self.ftp.voidresp()
        lines = raw.decode("utf-8", "surrogateescape").split("\r\n")[:-1]
        entries = []
        for line in lines:
            facts, _, name = line.partition(" ")
            told = dict(fact.lower().partition("=")[::2] for fact in facts.rstrip(";").split(";"))
            if told.get("type") not in ("cdir", "pdir"):
                entries.append(described(prefix + name, told))
        return entries

    def open(self, native: str, path: str) -> FtpFile:
        stat = self.look(native, path)
        if stat.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        if stat.is_other or stat.size is None:
            raise UnsupportedOperation("neither a file nor a directory")
        return FtpFile(self, native, stat)

    def send(self, native: str, spool: Spool, mode: int | None, mtime: float | None) -> None:
        with self.told():
            with self.ftp.transfercmd(f"STOR {native}") as data:
                for piece in spool.pieces():
                    data.sendall(piece)
                if isinstance(data, ssl.SSLSocket):
                    data.unwrap()
            self.ftp.voidresp()
        if self.look(native, native).size != spool.size:
            raise StorageUnavailableError("the server did not keep all that was sent")
        if mtime is not None:
            self.set_mtime(native, mtime)

    def rename(self, native: str, target: str, *, replace: bool) -> None:
        with self.told():
            self.ftp.rename(native, target)

    def remove(self, native: str) -> None:
        self._do("DELE", native)

    def mkdir(self, native: str) -> None:
        self._do("MKD", native)

    def rmdir(self, native: str) -> None:
        self._do("RMD", native)

    def set_mtime(self, native: str, mtime: float) -> None:
        try:
            self._do(f"MFMT {datetime.fromtimestamp(mtime, UTC):%Y%m%d%H%M%S}", native)
        except Refused:
            self.look(native, native)
            raise


class Told:
    """Turns the server's refusals into errors that say whether the connection is still good."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, ftplib.Error):
            return
        text = str(error)
        if text.startswith(_LOGIN):
            raise StoragePermissionError(f"the server refuses these credentials: {text}") from error
        if text.startswith(_UNKNOWN):
            raise UnsupportedOperation(f"the server does not know this: {text}") from error
        if text.startswith(_FULL):
            raise StorageQuotaError(f"the server has no room: {text}") from error
        if isinstance(error, ftplib.error_perm):
            raise PermissionError(errno.EACCES, text) if _DENIED.search(text) else Refused(text) from error
        raise StorageUnavailableError(f"the server cannot do this now: {text}") from error


class FtpBackend(ServerStorage):
    """Files of an FTP server that knows MLST and MLSD (RFC 3659)."""

    Options: ClassVar[Any] = FtpOptions
    features = Features(ordered=True, mtime_resolution=1.0, keeps_mtime=True, max_segment=255, backslash=True)

    @property
    def storage_id(self) -> str:
        options = self.options
        return f"ftp:{options.username}@{options.host}:{options.port}"

    def translate(self, error: Exception) -> StorageError | None:
        """What is neither missing nor in the way, and refused all the same, is forbidden."""
        if isinstance(error, (PermissionError, Refused)) and not isinstance(error, StorageError):
            return StoragePermissionError(f"the server refuses: {error.strerror or error}")
        return super().translate(error)

    def connect(self) -> Session:
        options = self.options
        ftp = _FtpTls(context=ssl.create_default_context()) if options.tls else ftplib.FTP()
        ftp.encoding = "utf-8"
        where = f"{options.host}:{options.port}"
        try:
            self._log_in(ftp)
        except BaseException as error:
            ftp.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                reason = f"the certificate of {where} cannot be trusted: {error.verify_message}"
                raise StoragePermissionError(reason) from error
            if isinstance(error, Refused):
                raise StoragePermissionError(f"{where} refuses: {error}") from error
            if isinstance(error, (OSError, EOFError)) and not isinstance(error, (TimeoutError, StorageError)):
                raise StorageUnavailableError(f"{where} cannot be reached: {error}") from error
            raise
        return FtpSession(ftp)

    def _log_in(self, ftp: ftplib.FTP) -> None:
        options = self.options
        with Told():
            ftp.connect(options.host, options.port, float(options.connect_timeout))
            assert ftp.sock is not None
            ftp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ftp.login(options.username, options.password)
            if isinstance(ftp, ftplib.FTP_TLS):
                ftp.prot_p()
            ftp.voidcmd("TYPE I")
        ftp.timeout = float(options.timeout)
        ftp.sock.settimeout(ftp.timeout)

    def _at(self, path: str) -> str:
        if "\n" in path or "\r" in path or "\0" in path:
            raise StoragePathError("FTP has no names with a line end")
        return super()._at(path)


class FtpsBackend(FtpBackend):
    """The same with TLS."""

    Options: ClassVar[Any] = FtpsOptions


class _FtpTls(ftplib.FTP_TLS):
    """Data connections that go on with the TLS session of the commands, as most servers demand."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:  # type: ignore[attr-defined]
            session = self.sock.session  # type: ignore[union-attr]
            conn = self.context.wrap_socket(conn, server_hostname=self.host, session=session)
        return conn, size


def described(path: str, facts: Mapping[str, str]) -> Stat:
    """Facts of RFC 3659; times are UTC."""
    kind = facts.get("type", "file")
    mtime = None
    if "modify" in facts:
        whole, _, part = facts["modify"].partition(".")
        mtime = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp() + float(f"0.{part or 0}")
    if kind in ("dir", "cdir", "pdir"):
        return Stat(path, None, True, mtime=mtime)
    if kind != "file":
        return Stat(path, None, mtime=mtime, is_other=True)
    return Stat(path, int(facts["size"]) if "size" in facts else None, mtime=mtime)
