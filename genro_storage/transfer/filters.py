"""Include and exclude patterns over relative paths; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .. import paths

EXCLUDED, NOT_INCLUDED = "excluded", "not included"
_REMEMBERED = 1000


class Pattern(NamedTuple):
    """A compiled pattern; `directories`: it means directories only."""

    regex: re.Pattern[str]
    directories: bool

    def matches(self, relpath: str, is_dir: bool) -> bool:
        return (is_dir or not self.directories) and self.regex.fullmatch(relpath) is not None


def compile_pattern(text: str) -> Pattern:
    """Compiles one pattern; a bad one → `ValueError`.

    Without ``/`` it matches the basename at any depth, with one the whole relative path; a leading ``/`` anchors a bare
    name, a trailing one means directories only, a leading ``(?i)`` ignores case.
    """
    if not isinstance(text, str):
        raise ValueError(f"a pattern is a str, not {type(text).__name__}")
    bare = text.removeprefix("(?i)")
    trimmed = bare.removeprefix("/").removesuffix("/")
    segments = paths.pattern_segments(trimmed, strict=True)
    if not segments:
        raise ValueError(f"a pattern that matches nothing: {text!r}")
    anchored = "/" in trimmed or bare.startswith("/")
    if not anchored and segments != ("**",):
        segments = ("**", *segments)
    return Pattern(paths.compile_pattern(segments, case_sensitive=bare == text), bare.endswith("/"))


class Filters:
    """Which entries of a tree go: some include matches (or there is none) and no exclude does.

    An exclude that matches a directory takes all below with it; an include never does.
    """

    def __init__(self, include: str | Sequence[str] | None = None, exclude: str | Sequence[str] | None = None) -> None:
        self._include = _compiled(include)
        self._exclude = _compiled(exclude)
        self._pruned: dict[str, bool] = {"": False}

    def __bool__(self) -> bool:
        return bool(self._include or self._exclude)

    def reason(self, relpath: str, is_dir: bool = False) -> str | None:
        """Why an entry stays behind: ``excluded`` or ``not included``; None where it goes."""
        if self._exclude and (self._is_pruned(paths.parent(relpath)) or self._is_excluded(relpath, is_dir)):
            return EXCLUDED
        if is_dir or not self._include or any(one.matches(relpath, False) for one in self._include):
            return None
        return NOT_INCLUDED

    def _is_excluded(self, relpath: str, is_dir: bool) -> bool:
        return any(one.matches(relpath, is_dir) for one in self._exclude)

    def _is_pruned(self, directory: str) -> bool:
        known = self._pruned.get(directory)
        if known is None:
            known = self._is_pruned(paths.parent(directory)) or self._is_excluded(directory, True)
            if len(self._pruned) >= _REMEMBERED:
                self._pruned = {"": False}
            self._pruned[directory] = known
        return known


def _compiled(given: str | Sequence[str] | None) -> tuple[Pattern, ...]:
    if given is None:
        return ()
    if not isinstance(given, Iterable):
        raise ValueError(f"patterns are a str or a list of them, not {given!r}")
    return tuple(compile_pattern(text) for text in ([given] if isinstance(given, str) else given))
