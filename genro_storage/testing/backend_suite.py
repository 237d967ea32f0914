"""BackendSuite: what every storage driver must do, as a pytest class whose only duty is a fixture `backend`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..backends.base import StorageBackend
from ..exceptions import StorageNotFoundError
from ..mount import Mount
from .conditions import Conditions
from .inplace import InPlace
from .listing import Listing
from .reading import Reading, entries
from .staging import Staging
from .suite import WORDS, powers
from .tree import Tree
from .versions import Versions
from .writing import Writing


class BackendSuite(Reading, Writing, Conditions, Staging, Listing, Tree, InPlace, Versions):
    """The acceptance test of a storage type.

    ::

        class TestMine(BackendSuite):
            lacks = SIMPLE                    # the words of `genro_storage.testing.suite.WORDS` it cannot do

            @pytest.fixture
            def backend(self):
                yield MyBackend(...)          # fresh and empty for every case

    Cases whose need is in `lacks` are not collected. `names` are the hostile names every driver must keep exactly; a
    subclass whose storage really cannot hold one may take it out. `many` is the number of entries that fills more
    than one page of a listing, `large` a size in bytes that the driver sends in several parts.
    """

    def test_lacks_is_declared(self, backend: StorageBackend) -> None:
        """The class says what the live backend lacks, no more and no less."""
        lacks = WORDS - powers(backend)
        assert set(self.lacks) == lacks, f"declare: lacks = {sorted(lacks)}"

    def test_names_and_facts_below(self, backend: StorageBackend) -> None:
        """A rooted twin has the same facts and the same id, and names the same bytes alike."""
        below = backend.rooted("a").rooted("b c")
        assert below.features == backend.features
        assert below.abilities == backend.abilities
        assert below.storage_id == backend.storage_id
        assert below.native_path("x") == backend.native_path("a/b c/x")

    @pytest.mark.parametrize("verb", ["stat", "stat_file", "look", "get", "range", "reader", "scan", "walk", "delete"])
    def test_missing_is_not_found(self, backend: StorageBackend, mount: Mount, verb: str) -> None:
        """R41: whatever the driver says, an absent path is a FileNotFoundError of our tree that names it."""
        if verb == "delete" and not backend.features.tells_missing:
            mount.delete("no/such")
            return
        verbs: dict[str, Callable[[str], object]] = {
            "range": lambda path: mount.get(path, 2, 5),
            "reader": lambda path: mount.reader(path).read(),
            "scan": lambda path: entries(mount.scan(path)),
            "walk": lambda path: entries(mount.walk(path)),
        }
        with pytest.raises(StorageNotFoundError) as caught:
            (verbs.get(verb) or getattr(mount, verb))("no/such")
        assert (caught.value.mount, caught.value.path) == ("m", "no/such")
        assert "m:no/such" in str(caught.value)
        assert not caught.value.retryable
