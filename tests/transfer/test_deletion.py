"""T44: deletions, and what waits for them, are kept on disk where they are many; T27: how many are too many."""

from __future__ import annotations

import pytest

from genro_storage.transfer import deletion
from genro_storage.transfer.deletion import CHUNK, Deletions, refusal
from genro_storage.transfer.plan import Action, Entry
from genro_storage.types import Stat


def action(kind: str, path: str, is_dir: bool = False, waits: bool = False) -> Action:
    key = (path + "/" if is_dir else path).encode("utf-8", "surrogateescape")
    stat = Stat(path, None if is_dir else 3, is_dir, mtime=1.5, hashes={"md5": "0"}, metadata={"k": "caf\u00e9"})
    return Action(kind, Entry(path, key, stat), waits=waits)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_paths_come_back_last_first(count: int) -> None:
    names = [f"d/{number:06}\udcff\u00e9" for number in range(count)]
    deletions = Deletions()
    for name in names:
        deletions.add(action("delete", name))
        deletions.add(action("delete", name + "-dir", is_dir=True))
    for _ in range(2):
        chunks = list(deletions.files())
        assert [name for chunk in chunks for name in chunk] == names[::-1]
        assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
    assert [name for chunk in deletions.directories() for name in chunk] == [f"{name}-dir" for name in names[::-1]]
    assert (deletions.count, bool(deletions)) == (count, count > 0)
    deletions.close()


def test_many_are_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "IN_MEMORY", 100)
    deletions = Deletions()
    for number in range(50):
        deletions.add(action("delete", f"a-name-{number}"))
        deletions.add(action("copy", f"waiting-{number}", waits=True))
    for spool in (deletions._files, deletions._waiting):
        assert isinstance(spool.file.fileno(), int)  # a file of the system by now
    assert len(list(deletions.waiting_actions())) == 50
    assert sum(map(len, deletions.files())) == 50
    deletions.close()


def test_what_waits_comes_back_whole() -> None:
    told: list[Action] = []
    deletions = Deletions(told.append)
    waiting = [action("copy", "a", waits=True), action("mkdir", "b\udcff", is_dir=True, waits=True)]
    for one in waiting:
        deletions.add(one)
    assert list(deletions.waiting_actions()) == waiting == told
    assert (deletions.waiting, deletions.waiting_files, deletions.waiting_bytes) == (2, 1, 3)
    assert not deletions
    deletions.clear()
    assert (list(deletions.waiting_actions()), deletions.waiting_files, list(deletions.files())) == ([], 0, [])
    deletions.add(action("delete", "c"))
    assert list(deletions.files()) == [["c"]]
    deletions.close()


@pytest.mark.parametrize(
    ("count", "files", "most", "refused"),
    [
        (0, 0, 0, False),
        (1, 10, 0, True),
        (10, 10, 10, False),
        (11, 20, 10, True),
        (99, 99, "0%", False),
        (100, 1000, "10%", False),
        (101, 1000, "10%", True),
        (100, 100, "50%", True),
        (500, 1000, "50%", False),
        (501, 1000, "50%", True),
        (1000, 1000, "100%", False),
    ],
)
def test_t27_refusal(count: int, files: int, most: int | str, refused: bool) -> None:
    told = refusal(count, files, most)
    assert (told is not None) is refused
    if told:
        assert told.startswith(f"would delete {count} of {files} files")
