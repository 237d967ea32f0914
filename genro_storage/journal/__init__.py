"""What a job has done and what it has begun, remembered in a record store until the job is finished."""

from __future__ import annotations

import os
import threading

from ..exceptions import StorageConfigError
from .job import Job
from .journal import Journal
from .rows import Done, JobInfo, Staged, fingerprint

__all__ = ["Done", "Job", "JobInfo", "Journal", "Staged", "default_journal", "default_path", "fingerprint"]


def default_path() -> str:
    """Where the journal of this user is: ``$XDG_STATE_HOME/genro_storage``, else ``~/.local/state/genro_storage``."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the specification says to ignore a relative one
        state = os.path.expanduser("~/.local/state")
        if not os.path.isabs(state):
            raise StorageConfigError("no home directory for the journal; set XDG_STATE_HOME or pass journal=")
    return os.path.join(state, "genro_storage", "journal.sqlite")


_defaults: dict[str, Journal] = {}
_defaults_lock = threading.Lock()


def default_journal() -> Journal:
    """The journal of this user, one in each process: its folder is made by this call, the file by the first job."""
    from ..records.sqlite import SQLiteRecordStore

    path = default_path()
    with _defaults_lock:
        if path not in _defaults:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _defaults[path] = Journal(SQLiteRecordStore(path))
        return _defaults[path]
