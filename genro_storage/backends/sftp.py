"""A directory of an SFTP server: host keys verified, files that appear whole, links and modes kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import paramiko

from ..exceptions import (
    StorageConfigError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from ..paths import join
from ..types import PLAIN, Features, Stat, Unfinished, WriteOptions
from . import _ssh, _sshlogin
from ._pool import Refused, ServerEditor, Session, survives
from ._server import ServerStorage
from ._sshedit import COPY, SshEditor, Unknown, copy, free_space
from ._sshparts import SftpParts, unfinished
from .base import StorageBackend, no_version
from .handles import BackendEditor, Tick
from .options import NetworkOptions, Secret


class SftpOptions(NetworkOptions, frozen=True, kw_only=True):
    """Without `password` and `key_file` the SSH agent and the user's own keys are offered."""

    host: str
    username: str
    port: int = 22
    password: Secret | None = None
    key_file: str | None = None
    passphrase: Secret | None = None
    host_keys: Literal["strict", "accept-new", "ignore"] = "strict"
    known_hosts: str | None = None
    symlinks: Literal["inside", "follow"] = "inside"


class SftpBackend(ServerStorage):
    """Files of an SFTP server (protocol version 3); links are followed as long as they stay below the root."""

    Options: ClassVar[Any] = SftpOptions
    aliases: ClassVar[Mapping[str, str]] = {"base_path": "path", "key_filename": "key_file"}
    features = Features(
        ordered=True,
        if_absent="atomic",
        mtime_resolution=1.0,
        keeps_mtime=True,
        keeps_mode=True,
        max_segment=255,
        backslash=True,
        surrogates=True,
    )

    @property
    def storage_id(self) -> str:
        options = self.options
        return f"sftp:{options.username}@{options.host}:{options.port}"

    def connect(self) -> Session:
        return _sshlogin.connect(self.options)

    def _claimed(self, session: Session) -> Session:
        fenced = self.root and self.options.symlinks == "inside"
        _ssh.of(session).fence.root = _ssh.encoded(f"/{self.root}") if fenced else None
        return session

    def translate(self, error: Exception) -> StorageError | None:
        host = f"{self.options.host}:{self.options.port}"
        if isinstance(error, paramiko.PasswordRequiredException):
            return StorageConfigError("the private key is encrypted; give its 'passphrase'")
        if isinstance(error, paramiko.AuthenticationException):
            return StoragePermissionError(f"{host} does not let '{self.options.username}' in with these credentials")
        if isinstance(error, paramiko.BadHostKeyException):
            return StoragePermissionError(
                f"the host key of {host} is not the one in 'known_hosts': somebody may be in between, or the server"
                " was set up anew and the old key must be removed there"
            )
        if isinstance(error, paramiko.SSHException):
            return self._translate_ssh(error, host)
        if type(error) is OSError and error.errno is None:  # as paramiko says it
            return StorageUnavailableError(f"the connection to {host} is lost: {error}")
        return super().translate(error)

    def _translate_ssh(self, error: paramiko.SSHException, host: str) -> StorageError:
        text = str(error)
        if "not found in known_hosts" in text:
            return StoragePermissionError(
                f"the host key of {host} is not in 'known_hosts'; add it, or set host_keys to 'accept-new'"
            )
        if "Invalid key" in text or "private key file" in text:
            return StorageConfigError(f"the private key cannot be used: {text}; look at 'key_file' and 'passphrase'")
        return StorageUnavailableError(f"no connection to {host}: {text}")

    def _target(self, session: Session, path: str) -> tuple[str, int | None]:
        """Through a link to what it leads to; a new file has the mode of the one it replaces."""
        there = self._there(session, path)
        native = self._at(path)
        if there is None or there.is_dir:
            return native, None
        if there.is_symlink:
            fence = _ssh.of(session).fence
            if there.is_other:
                fence.check(_ssh.encoded(native))
                raise StorageNotFoundError("the link here leads nowhere")
            native = str(fence.resolved(_ssh.encoded(native)), "utf-8", "surrogateescape")
        return native, None if there.mode is None else there.mode & 0o777

    def set_mode(self, path: str, mode: int) -> None:
        native = _ssh.encoded(self._at(path))
        with self._session() as session:
            _ssh.of(session).fence.check(native)
            _ssh.of(session).client.chmod(native, mode)

    def edit(self, path: str, mode: str) -> BackendEditor:
        """In place, for all to see at once; appended bytes land at the end, whoever else appends."""
        native = self._at(path) if mode == "r+" else self._new(path)
        session = self._claimed(self._pool.take())
        try:
            there = self._there(session, path) if _ssh.of(session).fence.root else None
            if there is not None and there.is_symlink:
                _ssh.of(session).fence.check(_ssh.encoded(native))
            try:
                opened = SshEditor(_ssh.of(session).client, native, mode)
            except FileNotFoundError:
                if mode == "r+":
                    raise
                self._make_parents(session, native)
                opened = SshEditor(_ssh.of(session).client, native, mode)
        except BaseException as error:
            self._pool.give(session, whole=survives(error))
            raise
        return ServerEditor(self._pool, session, opened)

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
        """By `copy-data`, where the server knows it; it is asked once."""
        no_version(version)
        if COPY in self._pool.unknown:
            raise UnsupportedOperation("this server cannot copy by itself")

        def made(session: Session, old: str, new: str, mode: int | None) -> int:
            ssh = _ssh.of(session)
            if isinstance(source, SftpBackend):
                source._claimed(session)
            ssh.fence.check(_ssh.encoded(old))
            self._claimed(session)
            return copy(ssh.client, old, new, _ssh.kept(mode, options.mtime), mode, tick)

        try:
            return self._copied(source, source_path, path, options, made)
        except Unknown:
            self._pool.unknown.add(COPY)
            raise

    def parts(
        self,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        part_size: int,
        token: str | None = None,
        receipts: Mapping[int, str] = {},
    ) -> SftpParts:
        self._new(path)
        return SftpParts(self, path, options, part_size=part_size, token=token, receipts=receipts)

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return unfinished(self, path, older_than)

    def free_space(self) -> int:
        with self._session() as session:
            client = _ssh.of(session).client
            try:
                return free_space(client, self._at(""))
            except FileNotFoundError:  # a mount's root may be still to come
                return free_space(client, "/")

    def symlink(self, path: str, target: str) -> None:
        """Makes a relative link; its target stays below the root of the mount, existing or not."""
        goal = "/" + join(self.root, target)
        native = self._at(path)
        relative = os.path.relpath(goal, os.path.dirname(native))
        with self._session() as session:
            try:
                _ssh.of(session).symlink(native, relative)
            except (FileNotFoundError, Refused) as error:
                if self._there(session, path) is not None:
                    raise StorageExistsError("Already exists") from error
                raise

    def readlink(self, path: str) -> str:
        native = _ssh.encoded(self._at(path))
        with self._session() as session:
            try:
                with _ssh.of(session).fence.around(_ssh.above(native)):
                    told = _ssh.of(session).client.readlink(native)
            except (FileNotFoundError, Refused):
                there: Stat = session.look(self._at(path), path)
                if there.is_symlink:
                    raise
                raise StoragePathError("not a symbolic link") from None
        return told if isinstance(told, str) else str(told, "utf-8", "surrogateescape")
