import base64
import json
import os
import threading

from genro_storage.records import Check, Put, Record, RecordFeatures, RecordStore
from genro_storage.records.base import conflict


class JsonRecordStore(RecordStore):
    """Records in one JSON file, written whole with every commit: for hundreds of records, not for millions."""

    name = "json"
    features = RecordFeatures(durable=True, snapshot_scan=True)
    outlasts = True  # nothing is awaited

    def __init__(self, path, **options):
        super().__init__(**options)
        self.path = path
        self.lock = threading.Lock()  # callers come from any thread
        self.last, self.held = 0, {}
        if os.path.exists(path):
            with open(path) as file:
                self.last, rows = json.load(file)
            self.held = {(s, k): Record(s, k, base64.b64decode(data), v, x) for s, k, data, v, x in rows}

    def _living(self, space, key):
        record = self.held.get((space, key))
        expired = record and record.expires_at is not None and record.expires_at <= self.clock()
        return None if expired else record

    async def _get(self, space, key):
        return self._living(space, key)

    async def _scan(self, space, after, until, limit, reverse):
        held = self.held  # a commit replaces it
        keys = [k for s, k in held if s == space and k > after and (until is None or k < until)]
        found = [record for key in sorted(keys, reverse=reverse) if (record := self._living(space, key))]
        return found[:limit]

    async def _commit(self, changes):
        with self.lock:
            for index, change in enumerate(changes):
                record = self._living(change.space, change.key)
                actual = record.version if record else 0
                if change.expect not in (None, actual):
                    raise conflict(changes, index, actual)
            last, held, versions = self.last, dict(self.held), []
            for change in changes:
                if isinstance(change, Put):
                    last += 1
                    record = Record(change.space, change.key, change.data, last, change.expires_at)
                    held[change.space, change.key] = record
                    versions.append(last)
                elif isinstance(change, Check):
                    versions.append(change.expect)
                else:
                    held.pop((change.space, change.key), None)
                    versions.append(0)
            self._write(last, held)
            self.last, self.held = last, held
            return versions

    def _write(self, last, held):
        rows = [[r.space, r.key, base64.b64encode(r.data).decode(), r.version, r.expires_at] for r in held.values()]
        with open(f"{self.path}.new", "w") as file:
            json.dump([last, rows], file)
        os.replace(f"{self.path}.new", self.path)
