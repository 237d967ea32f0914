"""An SMB session over smbprotocol: one connection of its own, answers awaited for so long, errors told apart."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

import smbclient
from smbclient._io import SMBFileTransaction, SMBRawIO
from smbprotocol.connection import Connection
from smbprotocol.exceptions import SMBException, SMBOSError, SMBResponseException
from smbprotocol.header import NtStatus
from smbprotocol.open import CreateOptions, FilePipePrinterAccessMask

from ..exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ..types import Stat
from ._fsspec import Spool
from ._pool import Refused, shrunk, survives

_BY_ERRNO: dict[int, type[StorageError]] = {
    errno.ENOENT: StorageNotFoundError,
    errno.EEXIST: StorageExistsError,
    errno.EISDIR: StorageIsADirectoryError,
    errno.ENOTDIR: StorageNotADirectoryError,
    errno.ENOTEMPTY: StorageNotEmptyError,
}
_BUSY = frozenset({NtStatus.STATUS_SHARING_VIOLATION, NtStatus.STATUS_DELETE_PENDING})
_LOGIN = frozenset({NtStatus.STATUS_LOGON_FAILURE, NtStatus.STATUS_WRONG_PASSWORD, NtStatus.STATUS_PASSWORD_EXPIRED})
_GONE = frozenset({NtStatus.STATUS_NETWORK_NAME_DELETED, NtStatus.STATUS_USER_SESSION_DELETED})
_DIRECTORY, _REPARSE = 0x10, 0x400
_MICROSECOND = 1000
_CLAIM = ".genro-c-"
_PAUSE = 0.02
_DELETE = FilePipePrinterAccessMask.DELETE | FilePipePrinterAccessMask.FILE_WRITE_ATTRIBUTES


class SmbFile:
    """A file that is read."""

    def __init__(self, file: Any, path: str) -> None:
        self._file = file
        self.stat = Stat(path, file.fd.end_of_file, mtime=file.fd.last_write_time.timestamp())

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        with _told():
            self._file.seek(start)
            while start < stop:
                data = self._file.read(min(stop - start, self._file.fd.connection.max_read_size))
                if not data:
                    raise shrunk()
                start += len(data)
                yield data

    def settled(self) -> Stat:
        return self.stat  # to ask by the handle costs what it costs by the path

    def close(self) -> None:
        with _told():
            self._file.close()


class _Patient(Connection):  # type: ignore[misc]  # it has no types
    """A connection that waits `patience` seconds for an answer, and asks no more who gave none."""

    patience = 60.0
    deaf = False

    def receive(
        self, request: Any, wait: bool = True, timeout: float | None = None, resolve_symlinks: bool = True
    ) -> Any:
        if self.deaf:
            raise SMBException("it does not answer")
        try:
            return super().receive(request, wait, self.patience if timeout is None else timeout, resolve_symlinks)
        except SMBException as error:
            if "timeout of" not in str(error):
                raise
            self.deaf = True
            raise StorageTimeoutError("no answer in time") from error

    def end(self) -> None:
        """Says good-bye to who still listens."""
        try:
            self.disconnect(close=not self.deaf)
        except (SMBException, OSError):
            with suppress(SMBException, OSError):
                self.disconnect(close=False)


class SmbSession:
    """One connection, which no other part of the process shares."""

    def __init__(self, options: Any) -> None:
        name = options.username
        self._share = rf"\\{options.host}\{options.share}"
        self._cache: dict[str, _Patient] = {}
        self._keys: dict[str, Any] = {
            "username": rf"{options.domain}\{name}" if options.domain and name else name,
            "password": options.password,
            "port": options.port,
            "encrypt": options.encrypt or None,
            "connection_timeout": float(options.connect_timeout),
            "connection_cache": self._cache,
        }
        with _told():
            # A client id of its own: Samba hands connections of one client to one process, and loses some on the way.
            connection = _Patient(uuid4(), options.host, options.port)
            connection.patience = float(options.connect_timeout)
            try:
                connection.connect(timeout=float(options.connect_timeout))
                self._cache[f"{options.host.lower()}:{options.port}"] = connection
                smbclient.stat(self._share, **self._keys)
            except BaseException:
                if connection.transport is not None:
                    connection.end()
                raise
        connection.patience = float(options.timeout)
        for sock in self._sockets():
            _watched(sock, float(options.timeout))

    def _sockets(self) -> list[socket.socket]:
        return [connection.transport._sock for connection in self._cache.values()]

    def alive(self) -> bool:
        return bool(self._cache) and all(one.transport.connected for one in self._cache.values())

    def close(self) -> None:
        while self._cache:
            self._cache.popitem()[1].end()

    def abandon(self) -> None:
        for sock in self._sockets():
            with suppress(OSError):
                os.close(sock.detach())

    def _unc(self, native: str) -> str:
        return self._share + native.replace("/", "\\")

    def look(self, native: str, path: str) -> Stat:
        """All that is wanted comes with the opening."""
        access = FilePipePrinterAccessMask.FILE_READ_ATTRIBUTES
        with _told():
            raw = SMBRawIO(self._unc(native), mode="r", share_access="rwd", desired_access=access, **self._keys)
            SMBFileTransaction(raw).commit()
        mtime = _timestamp(raw.fd.last_write_time)
        if raw.fd.file_attributes & _DIRECTORY:
            return Stat(path, None, True, mtime=mtime)
        return Stat(path, raw.fd.end_of_file, mtime=mtime)

    def listing(self, native: str, prefix: str) -> list[Stat]:
        entries = []
        with _told(), smbclient.scandir(self._unc(native), **self._keys) as found:
            for entry in found:
                facts = entry.smb_info
                mtime = _timestamp(facts.last_write_time)
                kind = int(facts.file_attributes)
                if kind & _REPARSE:  # a link, or a file that is elsewhere until it is read
                    entries.append(Stat(prefix + entry.name, mtime=mtime, is_other=True))
                elif kind & _DIRECTORY:
                    entries.append(Stat(prefix + entry.name, None, True, mtime=mtime))
                else:
                    entries.append(Stat(prefix + entry.name, facts.end_of_file, mtime=mtime))
        return [self._again(native, prefix, entry) if entry.is_other else entry for entry in entries]

    def _again(self, native: str, prefix: str, entry: Stat) -> Stat:
        try:
            return self.look(f"{native.rstrip('/')}/{entry.path.removeprefix(prefix)}", entry.path)
        except (StorageError, Refused, PermissionError) as error:
            if not survives(error):
                raise
            return entry

    def open(self, native: str, path: str) -> SmbFile:
        with _told():
            file = smbclient.open_file(self._unc(native), "rb", buffering=0, share_access="rwd", **self._keys)
        return SmbFile(file, path)

    def send(self, native: str, spool: Spool, mode: int | None, mtime: float | None) -> None:
        with _told():
            file: Any = smbclient.open_file(self._unc(native), "xb", buffering=0, **self._keys)
            with file:
                for piece in spool.pieces():
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[file.write(rest) :]
        if mtime is not None:
            self.set_mtime(native, mtime)

    def rename(self, native: str, target: str, *, replace: bool) -> None:
        rename = smbclient.replace if replace else smbclient.rename
        with _told():
            try:
                rename(self._unc(native), self._unc(target), **self._keys)
            except SMBOSError as error:
                if replace and error.ntstatus == NtStatus.STATUS_ACCESS_DENIED and self._may_rename(native):
                    reason = "the server does not replace this file: it is open elsewhere, or may not be written"
                    raise StorageConflictError(reason, retryable=True) from error
                raise

    def _may_rename(self, native: str) -> bool:
        """Whether the directory lets us, so that it is the target that stands in the way."""
        for old, new in ((native, f"{native}~"), (f"{native}~", native)):
            try:
                smbclient.rename(self._unc(old), self._unc(new), **self._keys)
            except SMBOSError:
                return False
        return True

    @contextmanager
    def claim(self, target: str, patience: float) -> Iterator[None]:
        """Only one at a time, of those who ask so for one name; the claim ends with the connection, too."""
        name = hashlib.sha256(target.lower().encode()).hexdigest()[:24]
        held = self._held(self._unc(f"{target.rpartition('/')[0]}/{_CLAIM}{name}"), time.monotonic() + patience)
        try:
            yield
        finally:
            with _told():
                held.close()

    def _held(self, place: str, deadline: float) -> Any:
        how = {"create_options": CreateOptions.FILE_DELETE_ON_CLOSE, "desired_access": _DELETE, **self._keys}
        while True:
            try:
                with _told():
                    return smbclient.open_file(place, "xb", buffering=0, **how)
            except (StorageExistsError, StorageConflictError):
                if time.monotonic() > deadline:
                    raise StorageConflictError("somebody else is creating this file", retryable=True) from None
            time.sleep(_PAUSE)

    def copy(self, native: str, target: str, mtime: float | None) -> int:
        """Bytes that the server copied into a new file."""
        with _told():
            smbclient.copyfile(self._unc(native), self._unc(target), **self._keys)
        if mtime is not None:
            self.set_mtime(target, mtime)
        return self.look(target, target).size or 0

    def free_space(self) -> int:
        with _told():
            free: int = smbclient.stat_volume(self._share, **self._keys).caller_available_size
        return free

    def remove(self, native: str) -> None:
        with _told():
            smbclient.remove(self._unc(native), **self._keys)

    def mkdir(self, native: str) -> None:
        with _told():
            smbclient.mkdir(self._unc(native), **self._keys)

    def rmdir(self, native: str) -> None:
        with _told():
            smbclient.rmdir(self._unc(native), **self._keys)

    def set_mtime(self, native: str, mtime: float) -> None:
        when = round(mtime * 1e6) * _MICROSECOND
        with _told():
            smbclient.utime(self._unc(native), ns=(when, when), **self._keys)


@contextmanager
def _told() -> Iterator[None]:
    """Turns the library's errors into ours."""
    try:
        yield
    except SMBOSError as error:
        raise _refusal(error, error.ntstatus) from error
    except SMBResponseException as error:
        raise _refusal(error, error.status) from error
    except SMBException as error:
        raise StorageUnavailableError(f"the connection is lost: {error}") from error


def _refusal(error: Exception, status: int) -> Exception:
    told = _BY_ERRNO.get(getattr(error, "errno", None) or 0)
    if told is not None:
        return told(os.strerror(getattr(error, "errno", 0)))
    if status == NtStatus.STATUS_ACCESS_DENIED:
        return PermissionError(errno.EACCES, "Permission denied")
    if status in _LOGIN:
        return StoragePermissionError("the server does not let this user in with these credentials")
    if status in _BUSY:
        return StorageConflictError("the file is in use elsewhere", retryable=True)
    if status == NtStatus.STATUS_DISK_FULL:
        return StorageQuotaError("the share is full; free some and try again")
    if status in _GONE:
        return StorageUnavailableError("the server ended the session")
    return Refused(str(error))


def _timestamp(when: datetime) -> float:
    return when.timestamp()


def _watched(sock: socket.socket, seconds: float) -> None:
    """smbprotocol waits for answers without end: the system gives up on a peer that is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(seconds / 2)))
