"""The memory of an agent of the OpenAI Agents SDK: its four calls, over any session store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..exceptions import SessionNotFoundError
from .conversations import ATOMIC
from .store import SessionStore


class AgentsSession:
    """What ``Runner.run(agent, text, session=…)`` takes: the items of one talk are the messages of one session.

    Fits the protocol `agents.memory.Session`, which needs no import. The first items make the session for `user_id`.
    """

    def __init__(self, session_id: str, store: SessionStore, *, user_id: str = "agents") -> None:
        self.session_id = session_id
        self.session_settings: Any = None
        self.store = store
        self.user_id = user_id

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The latest `limit` items, oldest first; None: as ``session_settings.limit`` says, or all."""
        if limit is None and self.session_settings is not None:
            settings = self.session_settings
            limit = settings.get("limit") if isinstance(settings, Mapping) else settings.limit
        history = await self.store.get_conversation_history(self.session_id, limit)
        return [message["content"] for message in history]

    async def add_items(self, items: Sequence[Any]) -> None:
        """Appends items; each 500 are stored together or not at all."""
        told = [{"role": _role_of(item), "content": item} for item in items]
        for start in range(0, len(told), ATOMIC):
            try:
                await self.store.append_messages(self.session_id, told[start : start + ATOMIC])
            except SessionNotFoundError:
                await self.store.create_session(self.session_id, self.user_id)
                await self.store.append_messages(self.session_id, told[start : start + ATOMIC])

    async def pop_item(self) -> Any | None:
        """Takes the latest item away and returns it; None where there is none."""
        message = await self.store.pop_message(self.session_id)
        return None if message is None else message["content"]

    async def clear_session(self) -> None:
        """Deletes the session with all its items; the next ones begin anew."""
        await self.store.delete_session(self.session_id)


def _role_of(item: Mapping[str, Any]) -> str:
    """Items that nobody says, such as calls of tools, have a type instead of a role."""
    return str(item.get("role") or item.get("type") or "item")[:64]
