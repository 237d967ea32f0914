"""Encrypted records: the suite over an encrypted store, what is hidden, what is refused, rotation."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from genro_storage.crypto import PIECE, TAG, Keyring, is_sealed
from genro_storage.exceptions import StorageConfigError, StorageCorruptedError
from genro_storage.records.base import Put
from genro_storage.records.encrypted import EncryptedRecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.records.sqlite import SQLiteRecordStore
from genro_storage.testing import RecordSuite
from genro_storage.testing.record_words import FakeClock


def keyring(*names: str) -> Keyring:
    """Keys that are the same for the same name."""
    return Keyring([{"id": name, "key": (name.encode() * 32)[:32].hex()} for name in names])


class TestEncrypted(RecordSuite):
    lacks = frozenset({"durable", "shared"})
    examples = 15

    @pytest.fixture
    def store(self, clock: FakeClock) -> EncryptedRecordStore:
        return EncryptedRecordStore(MemoryRecordStore(clock=clock), keyring("k1"))


def test_nothing_is_in_the_file(tmp_path: Path) -> None:
    store = EncryptedRecordStore(SQLiteRecordStore(tmp_path / "records.db"), keyring("k1"))
    store.sync.commit([Put("s", "name in clear", b"secret " * 10)])
    store.sync.close()
    written = (tmp_path / "records.db").read_bytes()
    assert b"name in clear" in written
    assert b"secret" not in written


def test_equal_data_does_not_look_equal() -> None:
    inner = MemoryRecordStore()
    store = EncryptedRecordStore(inner, keyring("k1"))
    store.sync.commit([Put("s", f"{n}", b"same") for n in range(50)])
    assert len({record.data[-20:] for record in inner.sync.scan("s")}) == 50


@pytest.mark.parametrize("place", [("s", "other"), ("t", "k"), ("s\x01", "k")])
def test_a_moved_record_does_not_open(place: tuple[str, str]) -> None:
    inner = MemoryRecordStore()
    store = EncryptedRecordStore(inner, keyring("k1"))
    store.sync.commit([Put("s", "k", b"data")])
    record = inner.sync.get("s", "k")
    assert record is not None
    inner.sync.commit([Put(*place, record.data)])
    with pytest.raises(StorageCorruptedError, match="another place"):
        store.sync.get(*place)


def test_every_changed_bit_is_seen() -> None:
    keys = keyring("k1")
    sealed = keys.seal(b"data", b"here")
    assert keys.open(sealed, b"here") == b"data"
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(StorageCorruptedError):
            keys.open(bytes(changed), b"here")
    for length in range(len(sealed)):
        with pytest.raises(StorageCorruptedError):
            keys.open(sealed[:length], b"here")


@pytest.mark.parametrize("size", [0, PIECE - TAG, PIECE - TAG + 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])
def test_large_data_is_sealed_in_pieces_as_at_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, data = keyring("k1"), os.urandom(size)
    sealed = keys.seal(data, b"here")
    assert keys.open(sealed, b"here") == data
    for changed in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:60] + b"####" + sealed[64:], sealed[:-1]):
        with pytest.raises(StorageCorruptedError):
            keys.open(changed, b"here")
    with pytest.raises(StorageCorruptedError):
        keys.open(sealed, b"there")
    monkeypatch.setattr("genro_storage.crypto.PIECE", 1 << 40)
    assert keys.open(sealed, b"here") == data
    at_once = keys.seal(data, b"here")
    monkeypatch.undo()
    assert keys.open(at_once, b"here") == data


def test_plain_records_are_refused() -> None:
    inner = MemoryRecordStore()
    inner.sync.commit([Put("s", "k", b"plain")])
    with pytest.raises(StorageCorruptedError, match="not sealed"):
        EncryptedRecordStore(inner, keyring("k1")).sync.get("s", "k")
    allowed = EncryptedRecordStore(inner, keyring("k1"), allow_plaintext_read=True)
    record = allowed.sync.get("s", "k")
    assert record is not None
    assert record.data == b"plain"


def test_a_wrong_key() -> None:
    inner = MemoryRecordStore()
    EncryptedRecordStore(inner, keyring("k1")).sync.commit([Put("s", "k", b"data")])
    with pytest.raises(StorageCorruptedError, match="'k1', which is not given"):
        EncryptedRecordStore(inner, keyring("k2")).sync.get("s", "k")
    other = Keyring([{"id": "k1", "key": os.urandom(32).hex()}])
    with pytest.raises(StorageCorruptedError, match="another key"):
        EncryptedRecordStore(inner, other).sync.scan("s")


def test_rotation() -> None:
    inner = MemoryRecordStore()
    inner.sync.commit([Put("s", "plain", b"plain")])
    old = EncryptedRecordStore(inner, keyring("k1"), allow_plaintext_read=True)
    old.sync.commit([Put("s", f"{n:03}", b"%d" % n) for n in range(300)])
    new = EncryptedRecordStore(inner, keyring("k2", "k1"), allow_plaintext_read=True)
    new.sync.commit([Put("s", "new", b"new")])
    before = new.sync.scan("s")
    assert new.sync.run(new.rotate("s")) == 301
    assert new.sync.run(new.rotate("s")) == 0
    alone = EncryptedRecordStore(inner, keyring("k2"))
    assert [record.data for record in alone.sync.scan("s")] == [record.data for record in before]


def test_keys_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(200, 232))
    monkeypatch.setenv("RECORD_KEY", base64.b64encode(key).decode() + "\n")
    one = Keyring([{"id": "a", "key_env": "RECORD_KEY"}])
    two = Keyring([{"id": "a", "key": base64.urlsafe_b64encode(key).decode()}])
    assert two.open(one.seal(b"x", b""), b"") == b"x"
    assert is_sealed(one.seal(b"", b""))
    assert "RECORD_KEY" not in repr(one)
    assert repr(one) == "Keyring(a)"


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"id": "a"}],
        [{"id": "", "key": "00" * 32}],
        [{"id": "a", "key": "00" * 31}],
        [{"id": "a", "key": "not a key at all"}],
        [{"id": "a", "key_env": "NOT_SET_ANYWHERE"}],
        [{"id": "a", "key": "00" * 32, "key_env": "X"}],
        [{"id": "a", "key": "00" * 32, "kye": "X"}],
        [{"id": "a", "key": "00" * 32}, {"id": "a", "key": "11" * 32}],
    ],
)
def test_keys_that_cannot_be(entries: list[dict[str, str]]) -> None:
    with pytest.raises(StorageConfigError) as caught:
        Keyring(entries)
    assert "00000000" not in f"{caught.value}"
