"""Whatever the trees: nothing is lost, nothing else is touched, the report adds up."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from genro_storage import transfer
from genro_storage.mount import Mount
from genro_storage.transfer.filters import Filters

from .conftest import memory_mount
from .stores import objects
from .trees import at, files, tree

NAMES = st.lists(st.sampled_from(["a", "b", "a-", "A", "ab"]), min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(NAMES, st.binary(max_size=3), max_size=7)
KINDS = st.sampled_from(["memory", "objects", "directory order", "folding"])


def mount_of(kind: str, name: str, content: dict[str, bytes]) -> Mount:
    if kind == "memory":
        mount = memory_mount(name)
    else:
        mount = objects(name, in_order=kind != "directory order", case_sensitive=kind != "folding")[0]
    for path, data in content.items():
        try:
            mount.put(f"d/{path}", data)
        except OSError:
            pass  # this store cannot hold a file and a directory of one name
    return mount


@given(TREES, TREES, KINDS, KINDS, st.booleans(), st.booleans(), st.sampled_from([(), "a", "b/", "*b"]))
def test_copy_and_move(
    source: dict[str, bytes],
    target: dict[str, bytes],
    source_kind: str,
    target_kind: str,
    moving: bool,
    overwrite: bool,
    exclude: Any,
) -> None:
    here, there = mount_of(source_kind, "s", source), mount_of(target_kind, "t", target)
    here.mkdir("d", exist_ok=True)
    before, old = files(here, "d"), files(there, "d")
    operation = transfer.move if moving else transfer.copy
    report = operation(at(here, "d"), at(there, "d"), overwrite=overwrite, exclude=exclude, errors="report")
    failed = {failure.relpath for failure in report.failures}
    now = files(there, "d")
    went = before.keys() - failed - {path for path in before if now.get(path) != before[path]}

    assert report.files_total == len(before) + len(failed - before.keys())
    assert len(report.failures) == report.failed == report.files_failed
    assert report.complete
    assert report.files_copied == len(before) - report.files_skipped - len(failed & before.keys())
    assert len(went) >= report.files_copied
    for path, data in now.items():
        assert data == (before[path] if path in went else old[path])
    assert old.keys() <= now.keys()
    if not overwrite:
        assert all(now[path] == data for path, data in old.items())
    left = files(here, "d")
    assert left.items() <= before.items()
    if not moving:
        assert left == before
    elif report.files_copied == len(before):
        assert tree(here) == {}
    for path in before.keys() - left.keys():
        assert now[path] == before[path]


@settings(max_examples=60)
@given(TREES, TREES, KINDS, KINDS, st.sampled_from([(), "a", "b/", "*b"]), st.booleans())
def test_sync_and_compare(
    source: dict[str, bytes],
    target: dict[str, bytes],
    source_kind: str,
    target_kind: str,
    exclude: Any,
    delete_excluded: bool,
) -> None:
    here, there = mount_of(source_kind, "s", source), mount_of(target_kind, "t", target)
    here.mkdir("d", exist_ok=True)
    before, old = files(here, "d"), files(there, "d")
    how = {"delete": True, "exclude": exclude, "delete_excluded": delete_excluded, "skip": "hash", "errors": "report"}
    planned = transfer.sync(at(here, "d"), at(there, "d"), dry_run=True, allow_empty_source=True, **how)
    assert files(there, "d") == old
    report = transfer.sync(at(here, "d"), at(there, "d"), allow_empty_source=True, **how)
    now = files(there, "d")
    assert files(here, "d") == before
    assert report.files_total == report.files_copied + report.files_skipped + report.files_failed
    chosen = {path: data for path, data in before.items() if not Filters(exclude=exclude).reason(path)}
    if not report.ok:
        assert report.files_deleted or old.keys() <= now.keys()  # what fails after deletions waited for them
        return
    assert {path: now.get(path) for path in chosen} == chosen
    assert planned.ok
    assert (planned.files_copied, planned.files_deleted) == (report.files_copied, report.files_deleted)
    names = {path[:end].casefold() for path in before for end in range(1, len(path) + 1)}
    folded_twins = {path for path in old if target_kind == "folding" and path.casefold() in names}
    for path in now.keys() - chosen.keys() - folded_twins:
        assert not delete_excluded
        assert Filters(exclude=exclude).reason(path)
        assert now[path] == old[path]
    if not exclude and not folded_twins:
        found = transfer.compare(at(here, "d"), at(there, "d"))
        assert (found.same, found.differ, found.only_source, found.only_destination) == (len(before), 0, 0, 0)
        assert transfer.sync(at(here, "d"), at(there, "d"), allow_empty_source=True, **how).files_copied == 0
