"""Large directories of storages that do not list in order."""

from __future__ import annotations

import random
import sys

import pytest

from genro_storage.backends.base import order
from genro_storage.mount import Mount
from genro_storage.transfer import ordered
from genro_storage.transfer.listing import Listing
from genro_storage.transfer.ordered import _packed, in_order
from genro_storage.types import Stat

from .trees import at, plant

ODD = ["a", "a-", "a.b", "a/", "a0", "\u00e9", "z\udcff", "b\x01", "\U0001f600", "e/"]


def entries(directory: str = "d/e/") -> list[Stat]:
    found = [
        Stat(
            directory + name.removesuffix("/"), None if name.endswith("/") else number, name.endswith("/"),
            is_symlink=number % 3 == 0, mtime=1e9 + number / 8, etag=f'"{number}"', hashes={"md5": "0" * 32},
            metadata={"k": "caf\u00e9"} if number % 2 else None, mode=0o644,
        )
        for number, name in enumerate(ODD)
    ]  # fmt: skip
    random.Random(1).shuffle(found)
    return found


@pytest.mark.parametrize("above", [0, 3, 9, 10, 100])
@pytest.mark.parametrize("directory", ["", "d/", "d/e/"])
def test_packed_or_not_it_is_the_same(above: int, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "PACKED_ABOVE", above)
    found = entries(directory)
    pages = [found[:2], [], found[2:7], found[7:]]
    assert list(in_order(pages)) == sorted(found, key=order)
    assert list(in_order([])) == []


def test_an_entry_waits_in_about_a_hundred_bytes() -> None:
    stats = [Stat(f"some/deep/directory/name-of-a-file-{number:07}.bin", 10_000, mtime=1e9) for number in range(1000)]
    rows = _packed([stats])
    assert (sys.getsizeof(rows) + sum(map(sys.getsizeof, rows))) / 1000 <= 130


def test_a_listing_of_a_large_directory(local: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "PACKED_ABOVE", 2)
    plant(local, **{f"d__{name}": b"1" for name in ("c", "a-", "a__x", "b", "a__y")})
    listing = Listing(at(local, "d"))
    listing.start()
    assert [entry.relpath for entry in listing.entries()] == ["a-", "a", "a/x", "a/y", "b", "c"]
    assert all(entry.stat.size == 1 for entry in listing.entries(by_level=True) if not entry.stat.is_dir)
