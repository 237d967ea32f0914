"""A small file in one piece: what is held against its stored hashes, and what a driver has proven already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from genro_storage import StorageManager, hashing
from genro_storage.exceptions import StorageCorruptedError
from genro_storage.transfer.job import Job
from genro_storage.transfer.piece import Piece
from genro_storage.transfer.places import At
from genro_storage.transfer.proof import cheapest
from genro_storage.types import Proven, Stat

DATA = b"abc"
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
WRONG = "0" * 32


@pytest.fixture
def job() -> Iterator[Job]:
    with StorageManager([{"name": "m", "type": "memory"}]) as storage:
        for path in ("a", "b"):
            storage.node(f"m:{path}").write_bytes(DATA)
        mount = storage.node("m:a").mount
        yield Job(At(mount, "a"), At(mount, "b"), mount.stat_file("a"))


def test_a_wrong_hash_of_the_source_is_told_before_anything_is_written(job: Job) -> None:
    with pytest.raises(StorageCorruptedError, match="its stored hash says otherwise") as caught:
        Piece(job, "checksum", Stat("a", 3, hashes={"md5": WRONG}), DATA).judge_source()
    assert caught.value.retryable
    Piece(job, "size", Stat("a", 3, hashes={"md5": WRONG}), DATA).judge_source()


def test_a_short_answer_is_no_copy(job: Job) -> None:
    with pytest.raises(StorageCorruptedError, match="3 bytes came where 4 should"):
        Piece(job, "size", Stat("a", 4), DATA).judge_source()
    Piece(job, "none", Stat("a", 4), DATA).judge_source()


@pytest.mark.parametrize(
    ("told", "reason"), [(Stat("b", 2), "it holds 2 bytes"), (Stat("b", 3, hashes={"md5": WRONG}), "it holds other")]
)
def test_what_is_proven_wrong_is_taken_away(job: Job, told: Stat, reason: str) -> None:
    with pytest.raises(StorageCorruptedError, match=reason):
        Piece(job, "checksum", Stat("a", 3), DATA).judge_target(told)
    assert not job.target.mount.exists("b")


def test_a_hash_of_either_side_makes_it_a_checksum(job: Job) -> None:
    for here, there in (({"md5": MD5}, {}), ({}, {"md5": MD5}), ({"md5": MD5}, {"md5": MD5})):
        piece = Piece(job, "checksum", Stat("a", 3, hashes=here), DATA)
        piece.judge_source()
        copied = piece.judge_target(Stat("b", 3, hashes=there))
        assert (copied.by_checksum, copied.by_size, copied.size) == (True, False, 3)
    copied = Piece(job, "checksum", Stat("a", 3), DATA).judge_target(Stat("b", 3))
    assert (copied.by_checksum, copied.by_size) == (False, True)


def test_what_the_driver_has_proven_is_not_computed_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cheapest(frozenset({"md5"})) == "md5"
    computed: list[str] = []
    new = hashing.new

    def counted(name: str) -> hashing.Hasher:
        computed.append(name)
        return new(name)

    monkeypatch.setattr(hashing, "new", counted)
    for hashes in (Proven(md5=MD5), {"md5": MD5}):
        piece = Piece(job, "checksum", Stat("a", 3, hashes=hashes), DATA)
        piece.judge_source()
        assert piece.judge_target(Stat("b", 3, hashes=hashes)).by_checksum
    assert computed == ["md5"]
