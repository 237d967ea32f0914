"""Files of an SSH server by fsspec's own class for it: a complete backend for genro_storage."""

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from genro_storage import StorageError, StoragePermissionError, StorageUnavailableError
from genro_storage.backends.fsspec import FsspecBackend, Kind
from genro_storage.backends.options import NetworkOptions, Secret


class Known(paramiko.MissingHostKeyPolicy):
    def __init__(self, file: str) -> None:
        self.keys = paramiko.HostKeys(file)

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if not self.keys.check(hostname, key):
            raise paramiko.SSHException(f"its key is not among those of {hostname}")


class SshOptions(NetworkOptions, frozen=True, kw_only=True):
    host: str
    username: str
    known_hosts: str
    port: int = 22
    password: Secret | None = None
    key_file: str | None = None


class SshBackend(FsspecBackend):
    Options = SshOptions

    def kind(self) -> Kind:
        return Kind(renames=True, atomic=True, mtime=1.0, max_segment=255)

    def base(self) -> str:
        return "/"

    def connect(self) -> SFTPFileSystem:
        given = self.options
        return SFTPFileSystem(
            given.host,
            port=given.port,
            username=given.username,
            password=given.password,
            key_filename=given.key_file,
            host_key_policy=Known(given.known_hosts),
            timeout=given.connect_timeout,
            allow_agent=False,
            look_for_keys=False,
            skip_instance_cache=True,
        )

    @property
    def storage_id(self) -> str:
        return f"ssh:{self.options.username}@{self.options.host}:{self.options.port}"

    def translate(self, error: Exception) -> StorageError | None:
        if isinstance(error, paramiko.AuthenticationException):
            return StoragePermissionError(f"{self.options.host} does not let '{self.options.username}' in")
        if isinstance(error, (paramiko.SSHException, EOFError)):
            return StorageUnavailableError(f"no connection to {self.options.host}: {error}")
        return None
