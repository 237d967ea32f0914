"""From what is typed to nodes: local files, mounts and URLs."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from ..exceptions import StorageMountNotFoundError, StoragePathError
from .failures import UsageError, local_names, sentence

if TYPE_CHECKING:
    from ..manager import StorageManager
    from ..nodes import StorageNode

LOCAL = ("/", "./", "../", "~")
STREAM = "-"


def is_local(text: str) -> bool:
    """Whether this names a local file and not ``mount:path`` or a URL."""
    return text.startswith(LOCAL) or ":" not in text


def local_path(text: str) -> str:
    """The absolute path of a local name; ``..`` goes up as the system does, also behind a link."""
    path = os.path.expanduser(text)
    if not path.startswith("/"):
        path = os.path.join(current_directory(), path)
    segments = path.split("/")
    if ".." in segments:
        last = len(segments) - segments[::-1].index("..")
        path = "/".join([os.path.realpath("/".join(segments[:last])).rstrip("/"), *segments[last:]])
    return path or "/"


def current_directory() -> str:
    """Where a relative name begins."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory was deleted; go to another one") from None


class Places:
    """Makes nodes; the configuration is read when a path first names a mount, or at once if its file was given."""

    def __init__(self, config: str | None = None) -> None:
        self._config = config
        self._configured = False
        self.own: tuple[str, ...] = ()
        """The mounts of the configuration, without those that are built in."""

    @cached_property
    def manager(self) -> StorageManager:
        """The manager of this command; it takes URLs."""
        from ..manager import StorageManager

        return StorageManager(urls=True)

    @cached_property
    def _files(self) -> str:
        """The URL of the mount of all local files; there a backslash is a character like any other."""
        mount = self.manager.node("file:///").mount
        mount.rules = mount.rules._replace(backslash=mount.features.backslash)
        return "file://"

    def configure(self) -> StorageManager:
        """The manager with the configured and the built-in mounts."""
        if not self._configured:
            from msgspec.structs import replace

            from .. import config

            current_directory()  # where discovery begins
            found = config.discover() if self._config is None else config.load(self._config)
            self.manager._add(replace(found or config.Config(), builtin_mounts=True))
            self.own = tuple(entry["name"] for entry in found.mounts) if found else ()
            self._configured = True
        return self.manager

    def address(self, text: str) -> str:
        """What the manager understands for what was typed."""
        if not text:
            raise UsageError("a path is empty; the current directory is '.'")
        local = is_local(text)
        if self._config is not None or not (local or "://" in text):
            self.configure()
        return f"{self._files}{local_path(text)}" if local else text

    def node(self, text: str) -> StorageNode:
        """The node that was typed; what no path can be is a usage error."""
        try:
            return self.manager.node(self.address(text))
        except StoragePathError as error:
            raise UsageError(sentence(error)) from error
        except StorageMountNotFoundError as error:
            if not os.path.lexists(text):
                raise
            hint = f"{error}. For the local file write './{text}'"
            raise StorageMountNotFoundError(hint, mount=error.mount) from error

    def close(self) -> None:
        """Ends the manager, if one was needed."""
        if "manager" in self.__dict__:
            self.manager.close()


def name_of(node: StorageNode) -> str:
    """How a person writes this node: ``mount:path``, a URL without its password, or a local path."""
    from ..manager import redacted_url

    return local_names(redacted_url(node.fullpath))
