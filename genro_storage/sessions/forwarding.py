"""A store in front of another: every call goes through unless a subclass does something about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from .interfaces import Facts, ICheckpointerBackend, IStorageBackend


class Forwarding(IStorageBackend, ICheckpointerBackend):
    """All calls of the interfaces, and of whatever else the store behind it has, handed on to `storage`."""

    def __init__(self, underlying_storage: Any) -> None:
        self.storage = underlying_storage

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "storage":  # a copy without its parts must not look for them for ever
            raise AttributeError(name)
        return getattr(self.storage, name)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def initialize(self) -> bool:
        return bool(await self.storage.initialize())

    async def close(self) -> None:
        await self.storage.close()

    async def health_check(self) -> Facts:
        told: Facts = await self.storage.health_check()
        return told

    async def get_metrics(self) -> Facts:
        told: Facts = await self.storage.get_metrics()
        return told

    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        return int(await self.storage.cleanup_expired_sessions(max_idle_hours))

    # --- sessions ---

    async def create_session(
        self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None, **more: Any
    ) -> Facts:
        told: Facts = await self.storage.create_session(session_id, user_id, metadata, **more)
        return told

    async def get_session(self, session_id: str) -> Facts | None:
        told: Facts | None = await self.storage.get_session(session_id)
        return told

    async def update_session(
        self,
        session_id: str,
        updates: Mapping[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
        **more: Any,
    ) -> bool:
        args = (session_id, updates, increment_requests, add_processing_time, mark_error)
        return bool(await self.storage.update_session(*args, **more))

    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        return bool(await self.storage.end_session(session_id, status))

    async def reopen_session(self, session_id: str) -> bool:
        """As `SessionStore.reopen_session`."""
        return bool(await self.storage.reopen_session(session_id))

    async def delete_session(self, session_id: str) -> bool:
        """As `SessionStore.delete_session`."""
        return bool(await self.storage.delete_session(session_id))

    # --- conversations and contexts ---

    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        return bool(await self.storage.add_conversation_message(session_id, role, content, metadata))

    async def append_messages(self, session_id: str, messages: Sequence[Mapping[str, Any]]) -> int:
        """As `SessionStore.append_messages`."""
        return int(await self.storage.append_messages(session_id, messages))

    async def get_conversation_history(self, session_id: str, limit: int | None = 50, **more: Any) -> list[Facts]:
        told: list[Facts] = await self.storage.get_conversation_history(session_id, limit, **more)
        return told

    async def get_task_context(self, session_id: str, **more: Any) -> Any | None:
        return await self.storage.get_task_context(session_id, **more)

    async def store_task_context(self, session_id: str, context: Any) -> bool:
        return bool(await self.storage.store_task_context(session_id, context))

    # --- checkpoints ---

    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        return bool(await self.storage.store_checkpoint(thread_id, checkpoint_id, checkpoint_data, metadata))

    async def put_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        return await self.store_checkpoint(thread_id, checkpoint_id, checkpoint_data, metadata)

    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> Facts | None:
        told: Facts | None = await self.storage.get_checkpoint(thread_id, checkpoint_id)
        return told

    async def list_checkpoints(self, thread_id: str, limit: int | None = 10) -> list[Facts]:
        told: list[Facts] = await self.storage.list_checkpoints(thread_id, limit)
        return told

    async def delete_checkpoint(self, thread_id: str, checkpoint_id: str) -> bool:
        """As `SessionStore.delete_checkpoint`."""
        return bool(await self.storage.delete_checkpoint(thread_id, checkpoint_id))

    async def delete_thread(self, thread_id: str) -> bool:
        """As `SessionStore.delete_thread`."""
        return bool(await self.storage.delete_thread(thread_id))

    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Sequence[tuple[Any, ...]]
    ) -> bool:
        return bool(await self.storage.put_writes(thread_id, checkpoint_id, task_id, writes_data))

    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[Any, ...]]:
        told: list[tuple[Any, ...]] = await self.storage.get_writes(thread_id, checkpoint_id)
        return told
