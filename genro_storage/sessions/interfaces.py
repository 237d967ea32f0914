"""What a store of sessions, conversations, checkpoints and task contexts can be asked; every call is awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

Facts = dict[str, Any]


class ISessionStorage(ABC):
    """Sessions: who, in what state, how much used."""

    @abstractmethod
    async def create_session(self, session_id: str, user_id: str, metadata: Mapping[str, Any] | None = None) -> Facts:
        """Makes a session and returns what `get_session` will; the same user's existing one comes back unchanged.

        Another user's → `SessionConflictError`.
        """

    @abstractmethod
    async def get_session(self, session_id: str) -> Facts | None:
        """The session as a fresh dict; None when there is none, or no more."""

    @abstractmethod
    async def update_session(
        self,
        session_id: str,
        updates: Mapping[str, Any] | None = None,
        increment_requests: bool = False,
        add_processing_time: float = 0.0,
        mark_error: bool = False,
    ) -> bool:
        """Changes status or metadata, adds to the counters (seconds of processing); False when there is no session."""

    @abstractmethod
    async def end_session(self, session_id: str, status: str = "completed") -> bool:
        """Sets a final status and the time of the end; False when there is no session."""


class IConversationStorage(ABC):
    """The messages of a session, in the order in which they were acknowledged."""

    @abstractmethod
    async def add_conversation_message(
        self, session_id: str, role: str, content: Any, metadata: Mapping[str, Any] | None = None
    ) -> bool:
        """Appends one message; True once it is stored. No such session → `SessionNotFoundError`."""

    @abstractmethod
    async def get_conversation_history(self, session_id: str, limit: int | None = 50) -> list[Facts]:
        """The latest `limit` messages (None: all), oldest first; nothing where there is no session."""


class ICheckpointStorage(ABC):
    """Named states of a thread of work."""

    @abstractmethod
    async def store_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Stores a checkpoint as the newest of its thread; one of that id is replaced."""

    @abstractmethod
    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> Facts | None:
        """A checkpoint with its envelope; without an id the one stored last."""

    @abstractmethod
    async def list_checkpoints(self, thread_id: str, limit: int | None = 10) -> list[Facts]:
        """The latest `limit` checkpoints (None: all), newest first."""


class ITaskContextStorage(ABC):
    """The state of the task that a session works on."""

    @abstractmethod
    async def get_task_context(self, session_id: str) -> Any | None:
        """The latest context; its own class only if that was registered, else a dict."""

    @abstractmethod
    async def store_task_context(self, session_id: str, context: Any) -> bool:
        """Keeps a new version of the context. No such session → `SessionNotFoundError`."""


class IStorageBackend(ISessionStorage, IConversationStorage, ICheckpointStorage, ITaskContextStorage):
    """All four, with a life and a health of their own."""

    @abstractmethod
    async def initialize(self) -> bool:
        """Connects and prepares; idempotent; a store that cannot be reached → `StorageConnectionError`."""

    @abstractmethod
    async def close(self) -> None:
        """Releases everything; idempotent."""

    @abstractmethod
    async def health_check(self) -> Facts:
        """A real round trip; tells, never raises."""

    @abstractmethod
    async def get_metrics(self) -> Facts:
        """Counts and latencies since the start of this process; cheap."""

    @abstractmethod
    async def cleanup_expired_sessions(self, max_idle_hours: float = 24) -> int:
        """Deletes sessions that were idle for longer, or are past their time to live; returns how many."""


class ICheckpointerBackend(ABC):
    """What a workflow engine needs: checkpoints, and the writes of tasks that wait for the next one."""

    @abstractmethod
    async def put_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """As `ICheckpointStorage.store_checkpoint`."""

    @abstractmethod
    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> Facts | None:
        """As `ICheckpointStorage.get_checkpoint`."""

    @abstractmethod
    async def list_checkpoints(self, thread_id: str, limit: int | None = 10) -> list[Facts]:
        """As `ICheckpointStorage.list_checkpoints`."""

    @abstractmethod
    async def put_writes(
        self, thread_id: str, checkpoint_id: str, task_id: str, writes_data: Sequence[tuple[Any, ...]]
    ) -> bool:
        """Keeps the writes of a task; a second call for the task replaces them."""

    @abstractmethod
    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[Any, ...]]:
        """All writes of a checkpoint as tuples, by task id, then in their given order."""
