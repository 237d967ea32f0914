"""One namespace over every place a program keeps files: name mounts, then work with ``mount:path`` nodes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backends import register_backend_type as register_backend_type
    from .capabilities import BackendCapabilities as BackendCapabilities
    from .default import compare as compare
    from .default import copy as copy
    from .default import default_manager as default_manager
    from .default import move as move
    from .default import node as node
    from .default import set_default_manager as set_default_manager
    from .default import sync as sync
    from .exceptions import *  # noqa: F403
    from .manager import StorageManager as StorageManager
    from .nodes import StorageNode as StorageNode
    from .transfer import CopyOptions as CopyOptions
    from .transfer import SkipStrategy as SkipStrategy
    from .transfer import TransferEvent as TransferEvent
    from .transfer import TransferReport as TransferReport
    from .types import Stat as Stat
    from .types import Version as Version

__version__ = "0.9.0"

_HOMES = {
    "backends": "register_backend_type",
    "capabilities": "BackendCapabilities",
    "exceptions": (
        "CommitOutcomeUnknownError RecordTooLargeError SessionConflictError SessionNotFoundError StaleSessionError "
        "StorageConfigError StorageConfigNotFoundError "
        "StorageConflictError StorageConnectionError StorageCorruptedError StorageDriverError StorageError "
        "StorageExistsError StorageIsADirectoryError StorageMountNotFoundError StorageNotADirectoryError "
        "StorageNotEmptyError StorageNotFoundError StoragePathError StoragePermissionError StorageQuotaError "
        "StorageSchemaError StorageTimeoutError StorageTransferError StorageUnavailableError "
        "StorageVersionNotFoundError StorageWarning TransferCancelled UnsupportedOperation VersionConflictError"
    ),
    "default": "compare copy default_manager move node set_default_manager sync",
    "manager": "StorageManager",
    "nodes": "StorageNode",
    "transfer": "CopyOptions SkipStrategy TransferEvent TransferReport",
    "types": "Stat Version",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> object:
    """Imports a public name from its module on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
