"""Logins of Starlette and FastAPI by starsessions: a store that never brings a session back after its logout."""

from __future__ import annotations

import secrets
from contextvars import ContextVar
from typing import NamedTuple

from starsessions.stores import SessionStore as StarSessionStore

from ..exceptions import StaleSessionError
from .options import MICRO
from .store import SessionStore

GONE = "removed"
"""The status of a session that was logged out: it stays as long as it would have, so that nothing late revives it."""


class _Read(NamedTuple):
    """What this request was told of an id."""

    session_id: str
    found: bool


_READ: ContextVar[_Read | None] = ContextVar("genro_storage_starsessions_read", default=None)


class GenroSessionStore(StarSessionStore):
    """``SessionMiddleware(app, store=GenroSessionStore(store))``.

    Data is in the metadata of a session and so at most `max_metadata` bytes, three quarters of it as bytes. A save
    after the session was removed, or after it expired, stores nothing and answers with an id that nobody knows; a login
    with an unknown id, which a client may have made up, gets a new one.

    Args:
        user_id: whom the sessions belong to in the store.
        keep: seconds that a session without a lifetime, which ends with the browser, is kept after its last use.
    """

    def __init__(self, store: SessionStore, *, user_id: str = "web", keep: float = 30 * 86400) -> None:
        self.store = store
        self.user_id = user_id
        self.keep = keep

    async def read(self, session_id: str, lifetime: int) -> bytes:
        """The data of a session; nothing where there is none, or its time is over."""
        data = await self._data(session_id)
        _READ.set(_Read(session_id, data is not None))
        return data or b""

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        """Stores data; returns the id under which it is."""
        read = _READ.get()
        known = read is not None and read.session_id == session_id
        if known and read is not None and not read.found:
            session_id, known = _new_id(), False
        if lifetime > 0 and ttl <= 0:
            return _new_id()
        until = self.store.records.clock() + ttl * MICRO if lifetime > 0 else None
        told = {"data": data, "until": until}
        while True:
            found = await self.store.get_session(session_id)
            if found is None and not known:
                seconds = float(lifetime) if lifetime > 0 else self.keep
                made = await self.store.create_session(session_id, self.user_id, told, ttl=seconds)
                if made["metadata"] == told:
                    return session_id
            elif found is None or found["status"] == GONE:
                return _new_id()
            else:
                try:
                    version = found["version"]
                    if await self.store.update_session(session_id, {"metadata": told}, expected_version=version):
                        return session_id
                except StaleSessionError:
                    pass
            known = True

    async def remove(self, session_id: str) -> None:
        """Forgets the data of a session for good."""
        gone = {"status": GONE, "metadata": {"data": None, "until": None}}
        try:
            await self.store.update_session(session_id, gone)
        except ValueError:  # what a client sent cannot be an id
            pass

    async def _data(self, session_id: str) -> bytes | None:
        try:
            found = await self.store.get_session(session_id)
        except ValueError:
            return None
        if found is None or found["status"] == GONE:
            return None
        until = found["metadata"].get("until")
        if until is not None and until <= self.store.records.clock():
            return None
        data = found["metadata"].get("data")
        return data if isinstance(data, bytes) else None


def _new_id() -> str:
    return secrets.token_hex(16)
