"""The staged write of one large file, remembered in the journal so that another run can go on with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from .. import hashing
from ..backends._staging import Receipt
from ..backends.base import PartWriter
from ..exceptions import StorageError, StorageNotFoundError, StorageUnavailableError, TransferCancelled
from ..journal import Staged, fingerprint
from ..types import PLAIN, Place, Stat
from .flow import Flow
from .options import PART
from .places import At, shown
from .proof import CHUNK

if TYPE_CHECKING:
    from .resume import Resume


class Staging:
    """One file's staged write, and what is remembered of it."""

    def __init__(self, resume: Resume, relpath: str, target: At) -> None:
        self._resume = resume
        self._relpath = relpath
        self._target = target
        self._staged: Staged | None = None
        self._receipts: dict[int, str] = {}
        self._looked = self._known_to_others = False
        self.resumed = 0
        """Bytes that were there when it was opened again."""

    def begun(self, begin: Callable[..., PartWriter], facts: Stat, part_size: int, flow: Flow) -> PartWriter | None:
        """The staged write that an earlier run or try began, else a new one; None: the target is there, `whole`.

        `begin` takes `part_size`, `token` and `receipts`, as `StorageBackend.parts`.
        """
        self.resumed = 0
        staged = self._known()
        if staged is not None and staged.source == state(facts) and staged.target == shown(self._target):
            try:
                writer = begin(part_size=staged.part_size, token=staged.token, receipts=staged.receipts)
                self._known_to_others = True
                self.resumed = sum(min(writer.part_size, (facts.size or 0) - offset) for offset in writer.held)
                return writer
            except StorageUnavailableError:
                raise
            except StorageNotFoundError:
                if is_whole(self._target, staged.receipts, staged.part_size, facts.size or 0, flow):
                    return None
            except StorageError:  # it is not taken: the file begins anew
                discard(self._target, staged.token)
        elif staged is not None:
            discard(self._target, staged.token)
        if staged is not None:
            self._forget()
        writer = begin(part_size=part_size)
        self._staged = Staged(self._relpath, shown(self._target), writer.token, writer.part_size, state(facts))
        self._known_to_others = self._resume.stage(self._staged)
        return writer

    def _known(self) -> Staged | None:
        if not self._looked:
            self._looked = True
            self._staged = self._resume.staged(self._relpath)
            self._receipts = dict(self._staged.receipts) if self._staged is not None else {}
        return None if self._staged is None else replace(self._staged, receipts=self._receipts)

    def _forget(self) -> None:
        self._staged, self._receipts = None, {}
        self._resume.unstage(self._relpath)

    def stored(self, offset: int, receipt: str) -> None:
        """A part is at the target; from any thread."""
        self._receipts[offset] = receipt
        self._resume.receipt(self._relpath, offset, receipt)

    @contextmanager
    def kept(self, writer: PartWriter) -> Iterator[PartWriter]:
        """Lets go of what is staged where a later run may go on with it, discards it after any other error."""
        try:
            yield writer
        except BaseException as error:
            if not self._is_kept(error):
                self._forget()
                writer.discard()
            raise

    def _is_kept(self, error: BaseException) -> bool:
        """Whether nothing is wrong with what was staged: somebody stopped it, or the storage was out of reach."""
        if self._resume.lost is not None:
            return self._known_to_others  # whoever has the job now goes on with it
        stopped = not isinstance(error, StorageError) or isinstance(error, (TransferCancelled, StorageUnavailableError))
        return stopped and self._resume.remembers


def state(facts: Stat) -> str:
    """What tells one state of a source from another: as `fingerprint`, and the time, since metadata change too."""
    return f"{fingerprint(facts)} {facts.mtime!r}"


def discard(place: Place, token: str) -> bool:
    """Takes away a staged write; False if it is gone. Where the storage has no parts, `place` is the hidden file."""
    mount, path = place.mount, place.path
    call, backend = mount.guard.call, mount.backend
    try:
        if mount.can("parts"):
            call("delete", path, backend.parts, path, PLAIN, part_size=PART, token=token).discard()
        else:
            call("delete", path, backend.delete, path)
    except StorageNotFoundError:
        return False
    return True


def is_whole(place: Place, receipts: Mapping[int, str], part_size: int, size: int, flow: Flow) -> bool:
    """Whether a file is what these parts make: the process that put the last one may have died after the commit.

    Reads it, part by part.
    """
    try:
        known = {offset: Receipt.read(receipt) for offset, receipt in receipts.items()}
        if sorted(known) != list(range(0, size, part_size)) or not hashing.computable("crc32c"):
            return False
        if place.mount.stat_file(place.path).size != size:
            return False
        with closing(place.mount.reader(place.path)) as reader:
            for _, receipt in sorted(known.items()):
                hasher, left = hashing.new("crc32c"), receipt.size
                while left and (chunk := reader.read(min(CHUNK, left))):
                    hasher.update(chunk)
                    left -= len(chunk)
                    flow.tick()
                if left or hasher.hexdigest() != receipt.crc32c:
                    return False
        return True
    except (StorageNotFoundError, TypeError, ValueError):  # a receipt may be a third party's
        return False
