"""Which sessions there are, page by page, also while they come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records.base import Record
from .contexts import TaskContexts
from .keys import COLD, HOT, by_status, by_user, judged_id
from .lanes import State
from .models import cold_of, hot_of, shown_session
from .shared import judged_limit

PAGE = 100


class Page(list[dict[str, Any]]):
    """Some sessions; `next` is the cursor for the following page, None after the last."""

    next: str | None = None


class Listing(TaskContexts):
    """Listing sessions."""

    async def list_sessions(
        self,
        user_id: str | None = None,
        status: str | None = None,
        *,
        limit: int | None = 100,
        after: str | None = None,
        newest_first: bool = False,
    ) -> Page:
        """Sessions of a user, in a status, or all; filtered in the order of their creation, else of their ids.

        Args:
            after: the `.next` of the page before; it stays valid although sessions come and go.
        """
        judged_limit(limit)
        space = COLD
        if user_id is not None:
            space = by_user(judged_id(user_id, "user_id"))
        elif status is not None:
            space = by_status(judged_id(status, "status"))
        page, cursor = Page(), after
        while limit is None or len(page) < limit:
            entries = await self._entries(space, cursor, newest_first)
            for entry, state in zip(entries, await self._states(space, entries), strict=True):
                cursor = entry.key
                if state is not None and (status is None or state.cold.status == status):
                    page.append(shown_session(state.cold, state.hot))
                    if len(page) == limit:
                        break
            if len(entries) < PAGE and (not entries or cursor == entries[-1].key):
                return page
        page.next = cursor
        return page

    async def _entries(self, space: str, cursor: str | None, newest_first: bool) -> list[Record]:
        if newest_first:
            return await self.records.scan(space, until=cursor, limit=PAGE, reverse=True)
        return await self.records.scan(space, after=cursor or "", limit=PAGE)

    async def _states(self, space: str, entries: Sequence[Record]) -> list[State | None]:
        keys = [entry.key if space == COLD else entry.key.partition(":")[2] for entry in entries]
        colds: Sequence[Record | None] = entries
        if space != COLD:
            colds = await self.records.get_many([(COLD, key) for key in keys])
        hots = await self.records.get_many([(HOT, key) for key in keys])
        return [_state(cold, hot) for cold, hot in zip(colds, hots, strict=True)]


def _state(cold: Record | None, hot: Record | None) -> State | None:
    if cold is None or hot is None:
        return None
    state = State(cold_of(cold.data), cold.version, hot_of(hot.data), hot.version)
    return state if state.cold.inc == state.hot.inc else None
