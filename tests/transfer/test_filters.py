"""Filters against a matcher that is slow and plainly right."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage.transfer.filters import EXCLUDED, NOT_INCLUDED, Filters

NAMES = st.sampled_from(["a", "b", "ab", "a.py", "b.py", ".c", "A"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
SEGMENTS = st.sampled_from(["a", "b", "*", "?", "*.py", "[ab]", "[!a]", "a*", "**", ".c", "A"])
PATTERNS = st.builds(
    lambda case, lead, body, tail: f"{case}{lead}{'/'.join(body)}{tail}",
    st.sampled_from(["", "", "(?i)"]),
    st.sampled_from(["", "", "/"]),
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


def naive_match(pattern: str, path: str, is_dir: bool) -> bool:
    folded = pattern.startswith("(?i)")
    if folded:
        pattern, path = pattern[4:].lower(), path.lower()
    if pattern.endswith("/"):
        if not is_dir:
            return False
        pattern = pattern[:-1]
    anchored = "/" in pattern
    parts = pattern.removeprefix("/").split("/")
    names = path.split("/")
    if not anchored and parts != ["**"]:
        names = names[-1:]
    return naive_segments(parts, names)


def naive_segments(parts: list[str], names: list[str]) -> bool:
    if not parts:
        return not names
    if parts[0] == "**":
        return any(naive_segments(parts[1:], names[count:]) for count in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and naive_segments(parts[1:], names[1:])


def naive_reason(include: list[str] | None, exclude: list[str], path: str, is_dir: bool) -> str | None:
    names = path.split("/")
    above = [("/".join(names[:depth]), True) for depth in range(1, len(names))]
    for one, directory in [*above, (path, is_dir)]:
        if any(naive_match(pattern, one, directory) for pattern in exclude):
            return EXCLUDED
    if is_dir or not include or any(naive_match(pattern, path, False) for pattern in include):
        return None
    return NOT_INCLUDED


@given(st.none() | st.lists(PATTERNS, max_size=2), st.lists(PATTERNS, max_size=2), PATHS, st.booleans())
def test_as_the_plain_matcher(include: list[str] | None, exclude: list[str], path: str, is_dir: bool) -> None:
    assert Filters(include, exclude).reason(path, is_dir) == naive_reason(include, exclude, path, is_dir)


@given(st.lists(PATTERNS, min_size=1, max_size=2), st.lists(PATHS, min_size=2, max_size=6))
def test_what_was_asked_before_changes_no_answer(exclude: list[str], paths: list[str]) -> None:
    one = Filters(None, exclude)
    assert [one.reason(path) for path in paths] == [Filters(None, exclude).reason(path) for path in paths]


@pytest.mark.parametrize(
    ("pattern", "path", "is_dir", "goes"),
    [
        ("*.py", "deep/er/a.py", False, False),
        ("/*.py", "deep/a.py", False, True),
        ("/a", "a", False, False),
        ("docs/*.md", "docs/a.md", False, False),
        ("docs/*.md", "x/docs/a.md", False, True),
        ("**/*.py", "a.py", False, False),
        ("__pycache__/", "x/__pycache__/a.pyc", False, False),
        ("__pycache__/", "x/__pycache__", False, True),
        ("build/*", "build/x/y", False, False),
        ("(?i)*.JPG", "a.jpg", False, False),
        ("*.JPG", "a.jpg", False, True),
        ("a*", "b/a[1].txt", False, False),
    ],
)
def test_the_examples_of_the_specification(pattern: str, path: str, is_dir: bool, goes: bool) -> None:
    assert (Filters(exclude=pattern).reason(path, is_dir) is None) is goes


def test_an_include_prunes_nothing_by_itself() -> None:
    filters = Filters(include="*.txt")
    assert filters.reason("a", is_dir=True) is None
    assert filters.reason("a/b.txt") is None
    assert filters.reason("a/b.md") == NOT_INCLUDED


@pytest.mark.parametrize("pattern", ["", "/", "(?i)", "a/../b", "..", "[a", "a\0"])
def test_a_bad_pattern_is_a_value_error(pattern: str) -> None:
    for patterns in (pattern, [pattern]):
        with pytest.raises(ValueError):
            Filters(include=patterns)
        with pytest.raises(ValueError):
            Filters(exclude=patterns)


def test_the_memory_of_pruned_directories_is_bounded() -> None:
    filters = Filters(exclude="no/")
    for number in range(5000):
        assert filters.reason(f"d{number}/x") is None
    assert filters.reason("no/x") == EXCLUDED
    assert len(filters._pruned) <= 1001
