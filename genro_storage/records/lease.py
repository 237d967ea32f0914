"""One owner at a time over a place without locks: an object that the owner keeps renewing, by its own clock."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..exceptions import StorageConflictError, StorageExistsError, StorageNotFoundError
from ._mount_objects import Objects
from .owner import Owner

PATH = "lease"


class LeaseBody(Struct, frozen=True):
    """What the object says; `beat` grows with each renewal, `released`: its owner ended in order."""

    owner: Owner
    seconds: float
    """How long its owner wants to be waited for."""
    beat: int = 0
    released: bool = False


class Lease:
    """Taken once, renewed now and then, released. `seconds`: how long it must stand still to be taken over.

    It keeps honest owners apart; that a late one can do no harm is the work of the log, not of the lease.
    """

    def __init__(self, objects: Objects, owner: Owner, seconds: float) -> None:
        self.objects = objects
        self.owner = owner
        self.seconds = seconds
        self._etag = ""
        self._beat = 0
        self._renewed = 0.0

    async def take(self) -> bool:
        """Waits a lease at most, the longer of both; returns whether there is no owner before that may wake up.

        Raises:
            StorageConflictError: somebody else is alive.
        """
        begun = self.objects.monotonic()
        seen: tuple[str, float] | None = None
        while True:
            found = await self._look()
            if found is None:
                if await self._written(None):
                    return True
                continue
            body, etag = found
            if seen is None or seen[0] != etag:
                seen = (etag, self.objects.monotonic())
            patience, time = max(self.seconds, body.seconds), self.objects.monotonic()
            if body.released or body.owner.is_alive is False or time - seen[1] >= patience:
                if await self._written(etag):
                    return body.released
                continue
            if time - begun >= patience:
                raise StorageConflictError(f"these records are owned by {body.owner}")
            await self.objects.sleep(min(1.0, patience / 10))

    async def _look(self) -> tuple[LeaseBody, str] | None:
        try:
            data, etag = await self.objects.get(PATH)
        except StorageNotFoundError:
            return None
        return msgspec.json.decode(data, type=LeaseBody), etag

    async def _written(self, etag: str | None, *, released: bool = False) -> bool:
        """Whether the object that was there (None: none) is ours now."""
        at = self.objects.monotonic()  # before it is sent: the others begin to count after it has arrived
        self._beat += 1
        data = msgspec.json.encode(LeaseBody(self.owner, self.seconds, self._beat, released))
        try:
            if etag is None:
                self._etag = await self.objects.create(PATH, data)
            else:
                self._etag = await self.objects.replace(PATH, data, etag)
        except (StorageExistsError, StorageConflictError, StorageNotFoundError):
            return False
        self._renewed = at
        return True

    @property
    def is_stale(self) -> bool:
        """Whether it was not renewed for so long that somebody may have taken it."""
        return self.objects.monotonic() - self._renewed > self.seconds * 2 / 3

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it."""
        return self.objects.monotonic() - self._renewed > self.seconds / 3

    async def renew(self) -> bool:
        """Whether it is still ours."""
        return await self._written(self._etag)

    async def release(self) -> None:
        """Lets the next owner begin at once."""
        await self._written(self._etag, released=True)
