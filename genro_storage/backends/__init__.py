"""The registry: type name → class, imported on first use; third parties add theirs by call or entry point."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..exceptions import StorageConfigError, StorageDriverError

ENTRY_POINTS = "genro_storage.backends"

_BUILTIN = {
    "azure": "genro_storage.backends.azure:AzureBackend",
    "base64": "genro_storage.backends.base64:Base64Backend",
    "fsspec": "genro_storage.backends.fsspec:FsspecBackend",
    "ftp": "genro_storage.backends.ftp:FtpBackend",
    "ftps": "genro_storage.backends.ftp:FtpsBackend",
    "gcs": "genro_storage.backends.gcs:GcsBackend",
    "git": "genro_storage.backends.git:GitBackend",
    "github": "genro_storage.backends.github:GitHubBackend",
    "http": "genro_storage.backends.http:HttpBackend",
    "libarchive": "genro_storage.composed.libarchive:LibarchiveBackend",
    "local": "genro_storage.backends.local:LocalStorage",
    "memory": "genro_storage.backends.memory:MemoryBackend",
    "s3": "genro_storage.backends.s3:S3Backend",
    "sessions": "genro_storage.sessions.files:SessionsBackend",
    "sftp": "genro_storage.backends.sftp:SftpBackend",
    "smb": "genro_storage.backends.smb:SmbBackend",
    "tar": "genro_storage.composed.tar:TarBackend",
    "temp": "genro_storage.backends.temp:TempBackend",
    "webdav": "genro_storage.backends.webdav:WebDavBackend",
    "zip": "genro_storage.composed.zip:ZipBackend",
}
ALIASES = {"abfs": "azure", "az": "azure", "file": "local", "gs": "gcs", "https": "http"}
_DRIVERS = {
    "azure": ("azure", "urllib3"),
    "gcs": ("google", "urllib3"),
    "git": ("dulwich",),
    "github": ("httpx",),
    "http": ("httpx",),
    "langgraph": ("langgraph", "langchain_core"),
    "libarchive": ("libarchive",),
    "s3": ("s3fs", "aiobotocore", "botocore"),
    "sftp": ("paramiko",),
    "smb": ("smbclient", "smbprotocol"),
    "webdav": ("httpx",),
}
"""Type → the modules its extra brings, to name the remedy when one is missing."""

_registered: dict[str, Any] = {}


def register_backend_type(name: str, cls: type, *, replace: bool = False, into: dict[str, Any] | None = None) -> None:
    """Makes `cls`, a `StorageBackend`, the type `name` for the whole process, or only `into` a manager's own table.

    Another kind of class, a bad name, or a name taken already without `replace` is a `StorageConfigError`.
    """
    from .base import StorageBackend

    if not (isinstance(cls, type) and issubclass(cls, StorageBackend)):
        raise StorageConfigError(f"{cls!r} is not a subclass of genro_storage.backends.StorageBackend")
    if not isinstance(name, str) or not name.isidentifier():
        raise StorageConfigError(f"{name!r} is not a name for a storage type; use letters, digits and '_'")
    target = _registered if into is None else into
    if not replace and (name in _BUILTIN or name in ALIASES or (name in target and target[name] is not cls)):
        raise StorageConfigError(f"the storage type '{name}' exists already; say replace=True to replace it")
    target[name] = cls


def backend_class(name: str, own: dict[str, Any] | None = None) -> Any:
    """The class of a type; unknown → `StorageConfigError`, no driver → `StorageDriverError` naming the extra."""
    name = ALIASES.get(name, name)
    found = (own or {}).get(name) or _registered.get(name) or _BUILTIN.get(name)
    installed: list[str] = []
    if found is None:
        found, installed = _installed(name)
    if found is None:
        known = ", ".join(sorted({*_BUILTIN, *_registered, *(own or {}), *installed}))
        raise StorageConfigError(f"Unknown storage type '{name}'. Known types: {known}")
    if isinstance(found, str):
        return imported(name, found)
    return found


def _installed(name: str) -> tuple[Any, list[str]]:
    """(the class that an installed package declares for a type, the types that packages declare)."""
    from importlib.metadata import entry_points  # costs more than all of this package

    from .base import StorageBackend

    points = entry_points(group=ENTRY_POINTS)
    point = next((point for point in points if point.name == name), None)
    if point is None:
        return None, [point.name for point in points]
    package = point.dist.name if point.dist is not None else point.module
    try:
        found = point.load()
    except ImportError as error:
        raise StorageDriverError(f"type '{name}' of the package '{package}' cannot be imported: {error}") from error
    except Exception as error:  # code of the package
        raise StorageConfigError(f"type '{name}' of the package '{package}' fails: {error!r}") from error
    if not (isinstance(found, type) and issubclass(found, StorageBackend)):
        raise StorageConfigError(
            f"type '{name}' of the package '{package}' is no subclass of StorageBackend: {found!r}"
        )
    return found, []


def imported(name: str, target: str) -> Any:
    """What `target` ("module:attribute") names; `StorageDriverError` naming the extra where the driver is missing."""
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _DRIVERS.get(name, ()):
            raise
        raise StorageDriverError(f"'{name}' needs '{error.name}': pip install 'genro-storage[{name}]'") from error


def __getattr__(name: str) -> Any:
    if name == "StorageBackend":  # public here, but the registry itself must stay cheap to import
        from .base import StorageBackend

        return StorageBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
