"""TransferSuite: what copy, move, sync and compare do between any two storages, by the numbers of the specification."""

from __future__ import annotations

from .transfer_files import FileTransfers
from .transfer_sync import SyncTransfers
from .transfer_trees import TreeTransfers


class TransferSuite(FileTransfers, TreeTransfers, SyncTransfers):
    """The acceptance test of an ordered pair of storages.

    ::

        class TestMineToLocal(TransferSuite):
            @pytest.fixture
            def source(self):
                return {"type": "mine", ...}      # a mount entry without its name, fresh and empty for every case

            @pytest.fixture
            def target(self, tmp_path):
                return {"type": "local", "path": str(tmp_path)}

    The cases see them as the mounts ``src:`` and ``dst:`` of a manager of their own.
    """
