"""Options never show a secret, however they get into a log."""

from __future__ import annotations

import pytest

from genro_storage import StorageManager

ENTRIES = [
    {"type": "s3", "bucket": "b", "access_key": "id", "secret_key": "hunter2", "session_token": "hunter2"},
    {"type": "gcs", "bucket": "b", "credentials": {"type": "service_account", "private_key": "hunter2"}},
    {"type": "azure", "container": "c", "account_name": "a", "account_key": "aHVudGVyMg=="},
    {"type": "sftp", "host": "h", "username": "u", "password": "hunter2", "passphrase": "hunter2"},
    {"type": "smb", "host": "h", "share": "s", "username": "u", "password": "hunter2"},
    {"type": "ftp", "host": "h", "username": "u", "password": "hunter2"},
    {"type": "webdav", "url": "https://h/d", "username": "u", "password": "hunter2"},
    {"type": "http", "url": "https://h/d", "token": "hunter2"},
    {"type": "github", "org": "o", "repo": "r", "token": "hunter2"},
    {"type": "s3", "bucket": "b", "client_options": {"proxies": {"https": "http://u:hunter2@proxy"}}},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry["type"]))
def test_no_repr_tells_a_secret(entry: dict[str, object]) -> None:
    with StorageManager([{"name": "m", **entry}]) as storage:
        backend = storage.get_backend("m")
        for shown in (
            repr(backend.options),
            repr(backend),
            repr(storage.mounts["m"]),
            repr(storage.node("m:f")),
            repr(storage),
        ):
            assert "hunter2" not in shown
            assert "aHVudGVyMg==" not in shown
        assert "***" in repr(backend.options)
