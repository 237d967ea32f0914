"""Pages of a listing as a mount gives them: retried from where they stopped, without names that no path can express."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

from . import paths
from .exceptions import StorageWarning
from .retry import Guard
from .types import Stat

OddKey = Callable[[Stat], object]
"""Called with each listed entry that no path can express."""

_SUSPECT = ("/.", "\n.", "\\", "\0", "//", "\n/", "/\n", "\n\n")
"""One of these stands in a page of listed paths, each between line ends, if any of them needs a closer look."""


class Pages:
    """One listing of the directory `path`; `start` begins a driver's listing behind an entry ("" for all)."""

    def __init__(
        self,
        guard: Guard,
        path: str,
        start: Callable[[str], Iterator[Sequence[Stat]]],
        rules: paths.Rules,
        ordered: bool,
        odd: OddKey | None,
    ) -> None:
        self._guard, self._path, self._start = guard, path, start
        self._rules, self._ordered, self._odd = rules, ordered, odd

    def addressable(self) -> Iterator[Sequence[Stat]]:
        """The pages without odd names, which go to `odd`, else into one warning at the end."""
        strange: list[Stat] = []
        for page in self._retried():
            yield self._sorted_out(page, self._odd or strange.append)
        if strange:
            where = paths.full(self._guard.mount, self._path)
            message = f"{len(strange)} names below '{where}' cannot be written as a path and were passed over"
            warnings.warn(message, StorageWarning, stacklevel=3)

    def _retried(self) -> Iterator[Sequence[Stat]]:
        last, attempt, pages = "", 0, None
        while True:
            try:
                pages = self._start(last) if pages is None else pages
                page = next(pages, None)
            except Exception as error:  # noqa: BLE001 - a driver call: `failure` translates
                failure = self._guard.failure(error, "list", self._path)
                if last and not self._ordered:
                    failure.retryable = False  # nobody knows where an unordered listing stopped
                self._guard.wait_or_raise(attempt, failure, error)
                attempt, pages = attempt + 1, None
                continue
            if page is None:
                return
            if page:
                # A file and a directory may have one name, and only the slash says which of them was the last.
                last = f"{page[-1].path}/" if page[-1].is_dir else page[-1].path
                yield page

    def _sorted_out(self, page: Sequence[Stat], odd: OddKey) -> Sequence[Stat]:
        text = "\n".join(["", *[entry.path for entry in page], ""])
        if text.isascii() and not any(mark in text for mark in _SUSPECT):
            return page
        kept = []
        for entry in page:
            if paths.is_hidden(entry.path):
                continue
            if paths.is_addressable(entry.path, self._rules):
                kept.append(entry)
            else:
                odd(entry)
        return kept
