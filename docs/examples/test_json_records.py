import pytest
from json_records import JsonRecordStore

from genro_storage.testing import RecordSuite


class TestJsonRecords(RecordSuite):
    lacks = frozenset({"shared"})

    @pytest.fixture
    def store(self, tmp_path, clock):
        return JsonRecordStore(str(tmp_path / "records.json"), clock=clock)

    def reopened(self, store, clock):
        return JsonRecordStore(store.path, clock=clock)
