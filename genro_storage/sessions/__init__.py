"""Sessions, conversations, checkpoints and task contexts over any record store."""

from .contexts import register_context_type as register_context_type
from .interfaces import ICheckpointerBackend as ICheckpointerBackend
from .interfaces import ICheckpointStorage as ICheckpointStorage
from .interfaces import IConversationStorage as IConversationStorage
from .interfaces import ISessionStorage as ISessionStorage
from .interfaces import IStorageBackend as IStorageBackend
from .interfaces import ITaskContextStorage as ITaskContextStorage
from .models import StorageType as StorageType
from .models import deserialize_session as deserialize_session
from .models import serialize_message as serialize_message
from .models import serialize_session as serialize_session
from .store import SessionStore as SessionStore
from .stores import MemoryStorageBackend as MemoryStorageBackend
from .stores import MountStorageBackend as MountStorageBackend
from .stores import PostgreSQLStorageBackend as PostgreSQLStorageBackend
from .stores import RedisStorageBackend as RedisStorageBackend
from .stores import SQLiteStorageBackend as SQLiteStorageBackend
from .stores import StorageFactory as StorageFactory
