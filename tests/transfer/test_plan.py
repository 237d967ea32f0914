"""The plan as a pure function of two listings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage.exceptions import (
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StoragePathError,
)
from genro_storage.transfer.filters import Filters
from genro_storage.transfer.plan import Action, Entry, Rules, actions
from genro_storage.types import Stat


def entry(name: str, **facts: Any) -> Entry:
    """A file, or a directory by a name ending in "/"; "->" after a name makes it a link."""
    is_link = name.endswith("->")
    name = name.removesuffix("->")
    stat = Stat(name.rstrip("/"), None if name.endswith("/") else 1, name.endswith("/"), is_link, **facts)
    return Entry(stat.path, name.encode(), stat)


def listing(*names: str) -> list[Entry]:
    return sorted(map(entry, names), key=lambda one: one.key)


def told(found: list[Action]) -> list[str]:
    def one(action: Action) -> str:
        why = type(action.error).__name__ if action.error else action.reason
        return f"{action.kind} {action.entry.relpath}{f': {why}' if why else ''}"

    return sorted(map(one, found))


def plan(source: list[Entry], target: list[Entry] = [], **rules: Any) -> list[str]:
    return told(list(actions(source, target, Rules(**rules))))


def test_files_are_copied_and_only_empty_directories_made() -> None:
    found = plan(listing("a", "d/", "d/x", "e/", "e/f/", "z"))
    assert found == ["copy a", "copy d/x", "copy z", "mkdir e/f"]


def test_existing_directories_are_not_made_and_other_entries_of_the_target_stay() -> None:
    assert plan(listing("e/", "f/", "g/"), listing("e/", "e/x", "f/y", "other")) == ["mkdir g"]


def test_no_empty_directories_if_not_wanted() -> None:
    assert plan(listing("a", "e/"), empty_dirs=False) == ["copy a"]


def test_overwrite_false_fails_what_exists() -> None:
    found = plan(listing("a", "b"), listing("a"), overwrite=False)
    assert found == ["copy b", "fail a: StorageExistsError"]


def test_t18_a_file_where_the_target_has_a_directory() -> None:
    source, target = listing("e", "e-", "f"), listing("e/", "e/x")
    assert plan(source, target) == ["copy e-", "copy f", "fail e: StorageIsADirectoryError"]
    assert plan(source, listing("e/x"), holds_both=True) == plan(source, target)


def test_t18_a_directory_where_the_target_has_a_file() -> None:
    source, target = listing("e/", "e/x", "e/y/z", "f/", "g"), listing("e", "e-", "e.txt", "f")
    found = plan(source, target)
    assert found == [
        "copy g",
        "fail e/x: StorageNotADirectoryError",
        "fail e/y/z: StorageNotADirectoryError",
        "fail f: StorageNotADirectoryError",
    ]


def test_t19_a_source_that_is_both() -> None:
    source = listing("e", "e-", "e/f")
    assert plan(source, holds_both=True) == ["copy e", "copy e-", "copy e/f"]
    assert plan(source) == ["copy e-", "copy e/f", "fail e: StorageIsADirectoryError"]
    for target in (listing("e", "e/f"), listing("e"), listing("e/f")):
        assert plan(source, target, holds_both=True) == ["copy e", "copy e-", "copy e/f"]


def test_t22_a_directory_emptied_by_filters_is_not_made() -> None:
    source = listing("d/", "d/x.tmp", "e/", "gone/", "gone/y")
    found = plan(source, filters=Filters(exclude=["*.tmp", "gone/"]))
    assert found == ["mkdir e", "skip d/x.tmp: excluded", "skip gone/y: excluded"]
    assert "mkdir e" in plan(source, filters=Filters(include="*.nothing"))


def test_t23_links() -> None:
    source = listing("d/->", "f->")
    assert plan(source, symlinks="skip") == ["skip d: symlink", "skip f: symlink"]
    assert plan(source, symlinks="copy") == ["link d", "link f"]
    assert plan(listing("d/->", "d/x", "f->")) == ["copy d/x", "copy f"]


def test_special_files_are_skipped_and_dangling_links_tried() -> None:
    source = [entry("fifo", is_other=True), entry("lost->", is_other=True)]
    assert plan(source) == ["copy lost", "skip fifo: special file"]


def test_t21_an_entry_that_can_only_fail() -> None:
    odd = Entry("a/../b", b"", Stat("a/../b", 1), error=StoragePathError("no path"))
    assert plan([odd, *listing("a", "d/", "d/x")], listing("a")) == [
        "copy a",
        "copy d/x",
        "fail a/../b: StoragePathError",
    ]


def test_t25_names_that_the_target_folds_into_one() -> None:
    source = listing("A", "Dir/x", "a", "b", "cafe\u0301", "caf\xe9", "dir/", "dir/y", "dir/z/", "E/", "e/")
    found = plan(source, folds=True)
    assert found == [
        "copy A",
        "copy Dir/x",
        "copy b",
        "copy cafe\u0301",
        "fail a: StorageExistsError",
        "fail caf\xe9: StorageExistsError",
        "fail dir/y: StorageExistsError",
        "fail dir/z: StorageExistsError",
        "fail e: StorageExistsError",
        "mkdir E",
    ]
    errors = [str(one.error) for one in actions(source, [], Rules(folds=True)) if one.error]
    assert any("'a'" in text and "'A'" in text for text in errors)
    assert not [line for line in plan(source) if line.startswith("fail")]


def test_the_target_is_read_no_further_than_needed() -> None:
    read: list[bytes] = []

    def target() -> Any:
        for one in listing("a", "b", *[f"n{number:03}" for number in range(100)]):
            read.append(one.key)
            yield one

    assert len(list(actions(listing("a", "c"), target(), Rules()))) == 2
    assert len(read) <= 4


def test_little_is_held_back() -> None:
    def source() -> Any:
        for number in range(1000):
            yield entry(f"file{number:04}")
            seen[0] += 1

    seen = [0]
    for count, _ in enumerate(actions(source(), [], Rules())):
        assert seen[0] - count <= 3


NAMES = st.lists(st.sampled_from(["a", "b", "a-", "ab", "a.b"]), min_size=1, max_size=3).map("/".join)


def real_tree(names: set[str]) -> list[Entry]:
    """A listing of a file system: directories are entries, no name is a file and a directory."""
    above = {"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 1)}
    return listing(*[name for name in names if name not in above], *[name + "/" for name in above])


@given(st.sets(NAMES, max_size=8), st.sets(NAMES, max_size=8))
def test_every_file_gets_exactly_one_action_and_the_right_one(source: set[str], target: set[str]) -> None:
    here, there = real_tree(source), real_tree(target)
    target_files = {one.relpath for one in there if not one.stat.is_dir}
    target_dirs = {one.relpath for one in there if one.stat.is_dir}
    found = list(actions(here, there, Rules()))
    expected: dict[str, type[StorageError] | None] = {}
    for one in here:
        if one.stat.is_dir:
            continue
        above = ["/".join(one.relpath.split("/")[:depth]) for depth in range(1, one.relpath.count("/") + 1)]
        if target_files.intersection(above):
            expected[one.relpath] = StorageNotADirectoryError
        else:
            expected[one.relpath] = StorageIsADirectoryError if one.relpath in target_dirs else None
    assert {one.entry.relpath: type(one.error) if one.error else None for one in found} == expected
    assert len(found) == len(expected)
    assert all(one.kind == ("fail" if one.error else "copy") for one in found)


@given(st.sets(NAMES, max_size=8), st.sets(NAMES, max_size=8))
def test_object_stores_hold_both(source: set[str], target: set[str]) -> None:
    found = list(actions(listing(*source), listing(*target), Rules(holds_both=True)))
    assert sorted(one.entry.relpath for one in found) == sorted(source)
    for one in found:
        name = one.entry.relpath
        has_dir = any(key.startswith(name + "/") for key in target)
        both = any(key.startswith(name + "/") for key in source)
        above = {"/".join(name.split("/")[:depth]) for depth in range(1, name.count("/") + 1)}
        if above & (target - source):
            assert isinstance(one.error, StorageNotADirectoryError)
        elif has_dir and name not in target and not both:
            assert isinstance(one.error, StorageIsADirectoryError)
        else:
            assert one.error is None


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_action_knows_whether_the_target_has_the_file(overwrite: bool) -> None:
    found = {one.entry.relpath: one for one in actions(listing("a", "b"), listing("a"), Rules(overwrite=overwrite))}
    assert found["b"].exists is False
    if overwrite:
        assert found["a"].exists is True
    else:
        assert isinstance(found["a"].error, StorageExistsError)
