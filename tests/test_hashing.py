"""Hashes by name."""

from __future__ import annotations

import hashlib
import sys

import pytest

from genro_storage import hashing
from genro_storage.exceptions import StorageDriverError

DATA = b"123456789"


@pytest.mark.parametrize("algorithm", [name for name in hashing.ALGORITHMS if name != "crc32c"])
def test_incremental_and_lowercase(algorithm: str) -> None:
    hasher = hashing.new(algorithm)
    for piece in (DATA[:3], bytearray(DATA[3:5]), memoryview(DATA)[5:]):
        hasher.update(piece)
    assert hasher.hexdigest() == hashlib.new(algorithm, DATA).hexdigest()


def test_crc32c_of_rfc_3720() -> None:
    hasher = hashing.new("crc32c")
    assert hasher.hexdigest() == "00000000"
    hasher.update(bytearray(DATA[:4]))
    hasher.update(memoryview(DATA)[4:])
    assert hasher.hexdigest() == "e3069283"
    zeros = hashing.new("crc32c")
    zeros.update(bytes(32))
    assert zeros.hexdigest() == "8a9136aa"


@pytest.mark.parametrize("name", ["sha3", "SHA256", "", None, []])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(ValueError, match="crc32c, md5, sha1, blake2b, sha256, sha512"):
        hashing.new(name)
    assert not hashing.computable(name)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(StorageDriverError, match=r"genro-storage\[s3\]"):
        hashing.new("crc32c")
    assert not hashing.computable("crc32c")
