"""Acceptance suites for storage drivers and a backend that fails on command, for third parties too; needs pytest."""

import pytest

MODULES = (
    *("backend_suite", "conditions", "inplace", "listing", "reading", "suite", "tree", "versions", "writing"),
    *("record_life", "record_model", "record_ranges", "record_suite", "record_words"),
    *("transfer_files", "transfer_sync", "transfer_trees"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in MODULES))

from .backend_suite import BackendSuite  # noqa: E402 - after the rewrite of their asserts is asked for
from .faulty import Fault, FaultPlan, FaultyBackend  # noqa: E402
from .record_faulty import FaultyRecordStore, RecordFault  # noqa: E402
from .record_suite import RecordSuite  # noqa: E402
from .suite import OBJECT_STORE, SIMPLE, needs  # noqa: E402
from .transfer_suite import TransferSuite  # noqa: E402

__all__ = [
    "OBJECT_STORE",
    "SIMPLE",
    "BackendSuite",
    "Fault",
    "FaultPlan",
    "FaultyBackend",
    "FaultyRecordStore",
    "RecordFault",
    "RecordSuite",
    "TransferSuite",
    "needs",
]
