"""A directory of an SMB share: files that appear whole, encryption on request, names that Windows can hold."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any, ClassVar

from ..exceptions import (
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from ..types import PLAIN, Features, Stat, WriteOptions
from ._pool import Session
from ._server import ServerStorage
from ._smb import SmbSession
from .base import StorageBackend, Tick, no_version
from .options import NetworkOptions, Secret

_NO_NAME = re.compile(
    r'[<>:"|?*\\\x00-\x1f]|[. ](/|$)|(^|/)(con|prn|aux|nul|com[0-9]|lpt[0-9])([. ][^/]*)?(/|$)', re.IGNORECASE
)


class SmbOptions(NetworkOptions, frozen=True, kw_only=True):
    """`encrypt`: the connection must be encrypted (SMB 3)."""

    host: str
    share: str
    port: int = 445
    username: str | None = None
    password: Secret | None = None
    domain: str | None = None
    encrypt: bool = False


class SmbBackend(ServerStorage):
    """Files of an SMB 2 or 3 share; names differ by more than their case."""

    Options: ClassVar[Any] = SmbOptions
    # Samba looks first and renames then, so that two may win: users of this library first claim the name.
    features = Features(
        ordered=True,
        if_absent="advisory",
        case_sensitive=False,
        mtime_resolution=1e-6,
        keeps_mtime=True,
        max_segment=255,
    )

    @property
    def storage_id(self) -> str:
        options = self.options
        return f"smb:{options.username}@{options.host}:{options.port}/{options.share}"

    def connect(self) -> Session:
        options = self.options
        try:
            return SmbSession(options)
        except StorageNotFoundError as error:
            reason = f"there is no share '{options.share}' on {options.host}:{options.port}"
            raise StorageUnavailableError(reason, retryable=False) from error
        except ValueError as error:
            if isinstance(error, StorageError):
                raise
            late = isinstance(error.__cause__, TimeoutError)
            raise (StorageTimeoutError if late else StorageUnavailableError)(str(error)) from error

    def _rename(
        self,
        session: Session,
        source: str,
        target: str,
        path: str,
        if_absent: bool,
        origin: ServerStorage | None = None,
    ) -> None:
        with _smb_of(session).claim(target, float(self.options.timeout)) if if_absent else nullcontext():
            super()._rename(session, source, target, path, if_absent, origin)

    def copy_from(
        self,
        source: StorageBackend,
        source_path: str,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        version: str | None = None,
        tick: Tick = lambda n: None,
    ) -> Stat:
        no_version(version)

        def copy(session: Session, old: str, new: str, mode: int | None) -> int:
            size = _smb_of(session).copy(old, new, options.mtime)
            tick(size)
            return size

        return self._copied(source, source_path, path, options, copy)

    def free_space(self) -> int:
        with self._pool.session() as session:
            return _smb_of(session).free_space()

    def _at(self, path: str) -> str:
        native = super()._at(path)
        if _NO_NAME.search(native):
            raise StorageNotFoundError("No such file or directory: SMB has no such names")
        return native

    def _new(self, path: str) -> str:
        native = super()._at(path)
        if _NO_NAME.search(native):
            raise StoragePathError(
                'SMB has no names with <>:"|?*, a backslash or a control character, none that end in a dot or a space,'
                " and none like CON, NUL or COM1"
            )
        return native


def _smb_of(session: Session) -> SmbSession:
    assert isinstance(session, SmbSession)
    return session
