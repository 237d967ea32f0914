"""Runs one transfer in a process of its own, to be killed: argv is JSON {mounts, operation, source, target, fields}."""

from __future__ import annotations

import json
import sys

from genro_storage import StorageManager

told = json.loads(sys.argv[1])
with StorageManager(told["mounts"]) as storage:
    print("started", flush=True)
    report = getattr(storage, told["operation"])(told["source"], told["target"], **told["fields"])
    print(json.dumps(report.to_dict()), flush=True)
