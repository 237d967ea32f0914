"""One S3 client per process: made on first use and after fork, run on fsspec's own loop thread, closed for good."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from msgspec import field

from ...exceptions import StorageTimeoutError
from .._objectwriter import check_process
from .._slots import Slots
from ..options import NetworkOptions, Secret
from .plain import Plain

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

T = TypeVar("T")
Answer = dict[str, Any]

SLOWEST = 64 * 1024
"""Bytes per second below which an upload counts as stuck."""


class S3Options(NetworkOptions, frozen=True, kw_only=True):
    """The keys of type `s3`; what is left out comes from the driver's own chain (environment, profile, instance)."""

    bucket: str
    region: str | None = None
    endpoint: str | None = None
    access_key: str | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None
    anon: bool = False
    version_aware: bool = True
    addressing: Literal["auto", "path", "virtual"] = "auto"
    storage_class: str | None = None
    sse: Literal["AES256", "aws:kms"] | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    requester_pays: bool = False
    verify_tls: bool = True
    checksum: Literal["auto", "crc32c", "sha256", "md5", "none"] = "auto"
    markers: bool = True
    engine: Literal["auto", "exact"] = "auto"
    client_options: dict[str, Any] = field(default_factory=dict)
    """More settings of `botocore.config.Config`, such as `proxies` or `user_agent_extra`."""


class Connection:
    """The client behind a mount and all its rooted twins; thread-safe, picklable by its options."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self.plain = Plain(options)
        self._reset()
        _live.add(self)

    def __reduce__(self) -> Any:
        return Connection, (self.options,)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._slots = Slots(self.options.max_connections)
        self._client: Any = None
        self._loop: AbstractEventLoop | None = None
        self._fs: Any = None
        self.open: weakref.WeakSet[Any] = weakref.WeakSet()
        """Uploads that are neither complete nor aborted."""

    def forget(self) -> None:
        """Called in the child of a fork: what the parent had open is kept as it is, and no longer used."""
        _inherited.append((self._client, self._fs))
        self._reset()

    # --- the client ---

    @property
    def client(self) -> Any:
        """The aiobotocore client; its methods give coroutines for `run`."""
        client = self._client
        if client is None:
            with self._lock:
                client = self._client
                if client is None:
                    from fsspec.asyn import get_loop

                    from .session import connected

                    self._loop = get_loop()
                    opening = connected(self.options.profile, self.config(), self.keywords())
                    client = self._start(opening).result()
                    self._client = client
        return client

    def keywords(self) -> dict[str, Any]:
        """What `create_client` takes beside the configuration."""
        options = self.options
        given = {
            "endpoint_url": options.endpoint,
            "region_name": options.region,
            "verify": None if options.verify_tls else False,
        }
        if not options.anon:
            given |= {
                "aws_access_key_id": options.access_key,
                "aws_secret_access_key": options.secret_key,
                "aws_session_token": options.session_token,
            }
        return {key: value for key, value in given.items() if value is not None}

    def config(self) -> dict[str, Any]:
        """The settings of `botocore.config.Config`: no retries, own checksums, our timeouts; a user's go last."""
        options = self.options
        settings: dict[str, Any] = {
            "retries": {"total_max_attempts": 1},
            "connect_timeout": options.connect_timeout,
            "read_timeout": options.timeout,
            "max_pool_connections": options.max_connections,
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "signature_version": "s3v4",  # botocore signs URLs by the version before it, if not told
        }
        if options.anon:
            from botocore import UNSIGNED

            settings["signature_version"] = UNSIGNED
        own = {"s3": {"addressing_style": options.addressing} | options.client_options.get("s3", {})}
        return settings | options.client_options | own

    def credentials(self) -> Answer:
        """Who signs now, in the words of obstore: as configured, else what the client found, refreshed where due."""
        options = self.options
        if options.access_key is not None and options.secret_key is not None:
            key, secret, token, until = options.access_key, str(options.secret_key), options.session_token, None
        else:
            found = self.client._request_signer._credentials
            if found is None:
                from botocore.exceptions import NoCredentialsError

                raise NoCredentialsError
            frozen = self.local(lambda client: found.get_frozen_credentials())
            key, secret, token = frozen.access_key, frozen.secret_key, frozen.token
            until = getattr(found, "_expiry_time", None)
        return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": until}

    # --- running ---

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts a request; at most `max_connections` run or stream at once, the others wait here."""
        self._take_slot(coroutine)
        future = self._start(coroutine)
        slots = self._slots
        future.add_done_callback(lambda _: slots.release())
        return future

    def run(self, coroutine: Coroutine[Any, Any, T], *, sent: int = 0) -> T:
        """Waits for a request that sends `sent` bytes; one that is stuck ends in `StorageTimeoutError`."""
        return self.wait(self.submit(coroutine), sent)

    def wait(self, future: Future[T], sent: int = 0) -> T:
        """As `run`, for what `submit` started."""
        options = self.options
        try:
            return future.result(options.timeout + options.connect_timeout + 1 + sent / SLOWEST if sent else None)
        except BaseException as error:
            if future.cancel() and isinstance(error, FutureTimeout):
                raise StorageTimeoutError(f"the upload of {sent} bytes is stuck") from error
            raise

    def head(self, request: Answer) -> Answer:
        """The answer to HeadObject."""
        answer = self.plain.head(self, request)
        return self.run(self.client.head_object(**request)) if answer is None else answer

    def local(self, make: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """Waits for what the client does by itself, so that it needs no connection."""
        return self._start(make(self.client)).result()

    def hold(self, coroutine: Coroutine[Any, Any, T]) -> tuple[T, Lease]:
        """As `run`, for an answer whose body is still to be read; its connection is ours until the lease ends."""
        self._take_slot(coroutine)
        lease = Lease(self._slots)
        try:
            return self.wait(self._start(coroutine)), lease
        except BaseException:
            lease.give_back()
            raise

    def step(self, lease: Lease, coroutine: Coroutine[Any, Any, T]) -> T:
        """Goes on with an answer that `hold` began."""
        if lease.pid != os.getpid():
            coroutine.close()
            check_process(lease.pid)
        return self.wait(self._start(coroutine))

    def drop(self, lease: Lease, close: Callable[[], object]) -> None:
        """Ends what `hold` began, and never waits."""
        if lease.pid == os.getpid():
            self.post(close)
        lease.give_back()

    def post(self, call: Any, *args: Any) -> None:
        """Has the loop call this some time; never waits, so that finalizers may use it."""
        loop = self._loop
        if loop is not None and self._pid == os.getpid():
            try:
                loop.call_soon_threadsafe(call, *args)
            except RuntimeError:  # the loop ended first
                pass

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        from asyncio import run_coroutine_threadsafe  # what needs no client waits for no event loop

        assert self._loop is not None
        return run_coroutine_threadsafe(coroutine, self._loop)

    def _take_slot(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            self.take_slot()
        except StorageTimeoutError:
            coroutine.close()
            raise

    def take_slot(self) -> Callable[[], object]:
        """Waits for leave to use one more connection; returns how to give it back."""
        slots = self._slots
        if not slots.acquire(timeout=self.options.timeout):
            most = self.options.max_connections
            raise StorageTimeoutError(f"all {most} connections are busy; close readers or raise 'max_connections'")
        return slots.release

    # --- the end ---

    def close(self, timeout: float = 5) -> None:
        """Aborts what is being uploaded and closes the connections; a later call opens new ones."""
        self.plain.close()
        uploads = list(self.open)
        self.open.clear()
        wait([self._start(upload.aborting()) for upload in uploads], timeout)
        with self._lock:
            client, self._client, fs, self._fs = self._client, None, self._fs, None
        del fs
        if client is not None and self._loop is not None and self._loop.is_running():
            future = self._start(client.__aexit__(None, None, None))
            try:
                future.result(timeout)
            except FutureTimeout:
                future.cancel()

    def __del__(self) -> None:
        if self._client is not None:
            self.post(spawn, self._client.__aexit__, None, None, None)

    # --- what users expect ---

    @property
    def fs(self) -> Any:
        """An `s3fs.S3FileSystem` with the mount's credentials, caches off."""
        if self._fs is None:
            from s3fs import S3FileSystem

            options = self.options
            given = self.keywords()
            for known in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "endpoint_url"):
                given.pop(known, None)
            config = self.config()
            config.pop("signature_version", None)
            self._fs = S3FileSystem(
                anon=options.anon,
                key=options.access_key,
                secret=options.secret_key,
                token=options.session_token,
                profile=options.profile,
                endpoint_url=options.endpoint,
                client_kwargs=given,
                config_kwargs=config,
                requester_pays=options.requester_pays,
                version_aware=options.version_aware,
                skip_instance_cache=True,
                use_listings_cache=False,
            )
            self._fs.retries = 1
        return self._fs


class Lease:
    """One connection's place, given back once, for use in one process."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots
        self.pid = os.getpid()

    def give_back(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()


def spawn(make: Any, *args: Any) -> None:
    """Runs a coroutine of the loop's thread to its end with nobody waiting; its failure interests nobody either."""
    from asyncio import ensure_future

    task = ensure_future(make(*args))
    _spawned.add(task)
    task.add_done_callback(_ended)


def _ended(task: Any) -> None:
    _spawned.discard(task)
    if not task.cancelled():
        task.exception()


_live: weakref.WeakSet[Connection] = weakref.WeakSet()
_inherited: list[Any] = []
_spawned: set[Any] = set()


def _after_fork() -> None:
    if "fsspec.asyn" in sys.modules:
        from fsspec.asyn import reset_lock

        reset_lock()  # fsspec's own hook misses it, and another thread may have held it at the fork
    connections = list(_live)
    for loop in {connection._loop for connection in connections}:
        _let_go(loop)
    for connection in connections:
        connection.forget()


def _let_go(loop: Any) -> None:
    """Makes the child's copies of the parent's sockets lead nowhere, before anything here closes them.

    A fork shares connections and the queue of their events: a TLS connection ended here would be ended for the parent,
    and a socket taken from the queue here would never be heard of there. A connection that is closed may still be
    listed; its number may be any other file's by now.
    """
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor, transport in list(getattr(loop, "_transports", {}).items()):
        sock = getattr(transport, "_sock", None)
        if sock is not None and sock.fileno() == descriptor:
            os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)


def _at_exit() -> None:
    for connection in list(_live):
        connection.close(timeout=1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
