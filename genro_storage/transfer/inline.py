"""A copy into a mount whose paths are the data: the target is the place that this data has by itself."""

from __future__ import annotations

import time

from ..backends.base64 import LIMIT, encoded
from ..exceptions import StorageIsADirectoryError, StorageQuotaError, UnsupportedOperation
from ..types import Place
from .places import fault, shown
from .report import TransferReport


def into_path(source: Place, target: Place) -> TransferReport:
    """Reads one small file; the report's `target_path` is its content in base64. Nothing is written anywhere."""
    if target.path:
        raise fault(UnsupportedOperation, target.mount.backend.readonly_reason, target)
    stat = source.mount.stat(source.path, version=source.version)
    if stat.is_dir:
        raise fault(StorageIsADirectoryError, "a directory cannot be carried by a path", source)
    data, _ = source.mount.get(source.path, 0, LIMIT + 1, version=source.version)
    if len(data) > LIMIT:
        raise fault(StorageQuotaError, f"inline content is {LIMIT} bytes at most", source)
    report = TransferReport("copy", shown(source), shown(target), encoded(data))
    report.destination += report.target_path
    report.files_copied, report.bytes_copied, report.finished = 1, len(data), time.time()
    return report
