"""What the suites share: cases that name what they need, and the words for what a backend can."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, ClassVar, TypeVar

import pytest

from ..backends.base import ABILITIES, StorageBackend

Case = TypeVar("Case", bound=Callable[..., object])

FACTS = frozenset(
    {
        "atomic_if_absent",
        "atomic_if_match",
        "case_sensitive",
        "content_type",
        "hashes",
        "if_absent",
        "if_match",
        "implied_dirs",
        "keeps_mode",
        "keeps_mtime",
        "metadata",
        "mtime",
        "ordered",
        "own_versions",
        "real_dirs",
        "surrogates",
        "tags",
        "tells_missing",
    }
)
OBJECT_STORE = frozenset(
    {"get_tags", "own_versions", "public_url", "set_metadata", "set_tags", "sign", "tags", "versions"}
)
"""What few storages but object stores can."""
WORDS = ABILITIES | FACTS
SIMPLE = WORDS - {"case_sensitive", "implied_dirs"}
"""What a backend of the five simple methods lacks, if it declares no features of its own."""


def needs(*words: str) -> Callable[[Case], Case]:
    """Marks a case that only makes sense where the backend has these abilities or facts (`WORDS`)."""
    unknown = set(words) - WORDS
    if unknown:
        raise ValueError(f"not a word of the suites: {sorted(unknown)}")

    def mark(case: Case) -> Case:
        case.needs = frozenset(words)  # type: ignore[attr-defined]
        return case

    return mark


def powers(backend: StorageBackend) -> frozenset[str]:
    """The words that hold for a live backend."""
    features = backend.features
    facts = {
        "atomic_if_absent": features.if_absent == "atomic",
        "atomic_if_match": features.if_match == "atomic",
        "case_sensitive": features.case_sensitive,
        "content_type": features.content_type,
        "hashes": bool(features.hashes),
        "if_absent": features.if_absent != "none",
        "if_match": features.if_match != "none",
        "implied_dirs": not features.real_dirs,
        "keeps_mode": features.keeps_mode,
        "keeps_mtime": features.keeps_mtime,
        "metadata": features.metadata,
        "mtime": features.mtime_resolution is not None,
        "ordered": features.ordered,
        "own_versions": features.own_versions and "versions" in backend.abilities,
        "real_dirs": features.real_dirs,
        "surrogates": features.surrogates,
        "tags": features.tags,
        "tells_missing": features.tells_missing,
    }
    return backend.abilities | {word for word, holds in facts.items() if holds}


def suite_name(suite: object) -> str:
    """``module::class``, the module without its packages."""
    return f"{type(suite).__module__.rpartition('.')[2]}::{type(suite).__name__}"


class Suite:
    """A test class that leaves out, before collection, the cases whose need is in `lacks`: nothing is ever skipped.

    `lacks` is declared by the subclass and compared with the live backend by a case of its own. `unkept` are words that
    the backend claims and a server behind it does not keep, as SeaweedFS the order of listings.

    Of a read-only storage `written_by` says what writes the files that it then reads, and `lent` which words are those
    of that writer: the table counts them among what the storage lacks.
    """

    lacks: ClassVar[Set[str]] = frozenset()
    unkept: ClassVar[Set[str]] = frozenset()
    lent: ClassVar[Set[str]] = frozenset()
    written_by: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in sorted({name for base in cls.__mro__ for name in vars(base) if name.startswith("test_")}):
            case = next((vars(base)[name] for base in cls.__mro__ if vars(base).get(name) is not None), None)
            if case is not None and hasattr(case, "needs"):
                # None is not callable: pytest does not collect it, and a subclass that lacks less gets the case back.
                setattr(cls, name, None if case.needs & (cls.lacks | cls.unkept) else case)

    @pytest.fixture(autouse=True)
    def _told_to_the_table(self, record_property: Callable[[str, object], None]) -> None:
        """For `genro_storage.testing.plugin`, which prints the table."""
        lacking = sorted(self.lacks | self.unkept | self.lent)
        record_property("storage_suite", (suite_name(self), lacking, self.written_by))
