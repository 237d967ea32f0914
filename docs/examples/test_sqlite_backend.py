import pytest
from sqlite_backend import SqliteBackend

from genro_storage.testing import SIMPLE, BackendSuite


class TestSqliteBackend(BackendSuite):
    lacks = SIMPLE

    @pytest.fixture
    def backend(self, tmp_path):
        return SqliteBackend(str(tmp_path / "files.db"))
