"""A private file that becomes the content of a node when it is closed."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from ..streams import drop
from . import content

if TYPE_CHECKING:
    from ..nodes import StorageNode

SPOOL = 8 << 20
"""Bytes that are held in memory; a temporary file takes more."""


class StagedFile(tempfile.SpooledTemporaryFile[bytes]):
    """``w+`` and ``x+``: a private file that becomes the node's content when closed, in one step."""

    def __init__(self, node: StorageNode, options: dict[str, Any]) -> None:
        self._node, self._options = node, options
        self._abandoned = False
        self.target = node.fullpath
        super().__init__(max_size=SPOOL)

    def abandon(self) -> None:
        """Closing then only closes."""
        self._abandoned = True

    def discard(self) -> None:
        """Gives up what was written; the old bytes stay."""
        self.abandon()
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if not self._abandoned:
                self.seek(0)
                content.write_from(self._node, self, self._options)
        finally:
            super().close()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            self.abandon()
        self.close()

    def __del__(self) -> None:
        drop(self, self.target)
