"""obstore as an accelerator: whole objects and ranges of clean keys, from threads; the exact path takes the rest."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.util import find_spec
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

LARGEST = 8 << 20
"""Bytes of the largest object sent: more is better sent in parts."""
SLOWEST = 64 * 1024
"""Bytes per second that an upload must reach: its whole body is sent under one timeout."""
REST = 5.0
"""Seconds for which the exact path takes over after the server said it is busy: it hears how long to wait."""
NO_LIMIT = timedelta(days=1)
"""For a request as a whole; what it may take is said of each step."""

_STATUS = re.compile(r"non-2xx status code: (\d{3})[^:]*: ?(.*?)\n\nDebug source", re.DOTALL)
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_TAG = {name: re.compile(f"<{name}>(.*?)</{name}>", re.DOTALL) for name in ("Code", "Message")}
_RESERVED = frozenset(
    {"content-disposition", "content-encoding", "content-language", "content-type", "cache-control", "storage-class"}
)


class Answered(Exception):
    """The server's refusal: an HTTP status, its body, and the code and the message in it."""

    def __init__(self, status: int, body: str) -> None:
        told = {name: match[1] for name, tag in _TAG.items() if (match := tag.search(body))}
        self.status, self.body = status, body
        self.code, self.message = told.get("Code", ""), told.get("Message", "")
        super().__init__(f"{status} {self.code} {self.message}".strip())


class Unanswered(Exception):
    """No whole answer came; `timed_out` says whether it was waited for in vain."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class Declined(Exception):
    """This is not for obstore: the exact path has to do it, and to tell what is wrong, if anything is."""


class Fetched(NamedTuple):
    """One object, or a range of it, with its facts: `meta` and `attributes` as obstore names them."""

    data: bytes
    meta: Mapping[str, Any]
    attributes: Mapping[str, str]


# --- what it can do ---


def available() -> bool:
    """Whether obstore is installed, and may be used in this process: its threads do not live on in a fork's child."""
    return not _forked and find_spec("obstore") is not None


def is_clean(key: str) -> bool:
    """Whether obstore sends this key as it is; what it cannot parse it refuses by itself."""
    return key[:1] not in ("", "/") and key[-1] != "/"


def takes(metadata: Mapping[str, str]) -> bool:
    """Whether these metadata keys are none that obstore takes for headers."""
    return not metadata.keys() & _RESERVED


def largest_put(timeout: float) -> int:
    """Bytes that a slow line still sends before the request counts as stuck."""
    return min(LARGEST, int(timeout * SLOWEST))


def client_options(
    timeout: float,
    connect_timeout: float,
    connections: int,
    *,
    verify_tls: bool = True,
    headers: Mapping[str, str] = {},
) -> Any:
    """The settings of obstore's HTTP client that say what our own options say; `headers` go with every request."""
    return {
        "default_headers": dict(headers),
        "allow_http": True,
        "allow_invalid_certificates": not verify_tls,
        "connect_timeout": timedelta(seconds=connect_timeout),
        "read_timeout": timedelta(seconds=timeout),
        "timeout": NO_LIMIT,
        "pool_max_idle_per_host": str(connections),
    }


class Accelerator:
    """A store of obstore, made on first use from `config()`; thread-safe.

    `kind` is a class of `obstore.store`; `take_slot` waits for leave to use a connection and returns how to end it.
    """

    def __init__(
        self, kind: str, config: Callable[[], Mapping[str, Any]], take_slot: Callable[[], Callable[[], object]]
    ) -> None:
        self._kind, self._config, self._take_slot = kind, config, take_slot
        self._lock = threading.Lock()
        self._store: Any = None
        self._module: Any = None
        self._rest_until = 0.0

    def takes(self, key: str) -> bool:
        """Whether a request for this key may go this way now."""
        return is_clean(key) and not _forked and time.monotonic() >= self._rest_until

    def _told(self, error: Exception) -> Exception:
        """What an error says, remembered where the server is busy."""
        told = failure(error)
        if isinstance(told, Answered) and told.status in (429, 503):
            self._rest_until = time.monotonic() + REST
        return told

    def _connected(self) -> Any:
        global _used
        if _forked:
            raise Declined("a fork's child has no threads of obstore")
        if self._store is not None:
            return self._store
        _used = True  # before the lock: a child never waits for one that was held at the fork
        with self._lock:
            if self._store is None:
                import obstore
                from obstore import store

                self._module = obstore
                config = dict(self._config())
                self._store = getattr(store, self._kind)(retry_config={"max_retries": 0}, **config)
            return self._store

    def close(self) -> None:
        """Lets go of the connections; a later call opens new ones."""
        store, self._store = self._store, None
        if _forked:
            _inherited.append(store)

    def __del__(self) -> None:
        self.close()

    def get(self, key: str, start: int = 0, end: int | None = None, if_match: str | None = None) -> Fetched:
        """The bytes [start, end) of an object, at least one; a negative `start` counts from the end."""
        options: Any = {}
        if start or end is not None:
            options["range"] = (start, end) if end is not None else _open_range(start)
        if if_match is not None:
            options["if_match"] = if_match
        if threading.get_ident() != _main:
            return self._get(key, options)
        return interruptible(lambda: self._get(key, options))

    def head(self, key: str) -> Fetched:
        """The facts of a whole object, and none of its bytes."""
        if threading.get_ident() != _main:
            return self._get(key, _HEAD)
        return interruptible(lambda: self._get(key, _HEAD))

    def _get(self, key: str, options: Any) -> Fetched:
        store = self._connected()
        free = self._take_slot()
        try:
            result = self._module.get(store, key, options=options)
            data = b"" if options is _HEAD else result.bytes().to_bytes()
            return Fetched(data, result.meta, result.attributes)
        except Exception as error:  # a driver call: `failure` translates
            raise self._told(error) from error
        finally:
            free()

    def put(self, key: str, data: bytes, attributes: Mapping[str, str], mode: Any = None) -> Mapping[str, Any]:
        """One PUT; `mode` is obstore's: None, ``"create"``, or a dict with the version that is to be replaced."""
        if threading.get_ident() != _main:
            return self._put(key, data, attributes, mode)
        return interruptible(lambda: self._put(key, data, attributes, mode))

    def _put(self, key: str, data: bytes, attributes: Mapping[str, str], mode: Any) -> Mapping[str, Any]:
        store = self._connected()
        free = self._take_slot()
        try:
            told: Mapping[str, Any] = self._module.put(
                store, key, data, attributes=attributes, mode=mode, use_multipart=False
            )
        except Exception as error:  # a driver call: `failure` translates
            raise self._told(error) from error
        finally:
            free()
        return told


_HEAD: Any = {"head": True}


def _open_range(start: int) -> dict[str, int]:
    return {"suffix": -start} if start < 0 else {"offset": start}


# --- errors ---


def failure(error: Exception) -> Exception:
    """What an error of obstore says: it tells status and cause only in its text."""
    if isinstance(error, Declined):
        return error
    text = str(error)
    if found := _STATUS.search(text):
        return Answered(int(found[1]), found[2])
    found = _KIND.search(text)
    if found and found[1] != "Connect":  # nothing was sent: the exact path will say what is wrong
        return Unanswered(_cause(text), timed_out=found[1] == "Timeout")
    return Declined(text.partition("\n")[0])


def _cause(text: str) -> str:
    """The innermost message of a failed request, for people."""
    messages = re.findall(r'message: "([^"]*)"', text)
    return messages[-1] if messages else text.partition("\n")[0].rpartition("HTTP error: ")[2]


# --- threads and processes ---


class _Helper(threading.Thread):
    """Runs calls for the main thread, so that Ctrl-C is heard at once while obstore waits; lives for one at a time."""

    def __init__(self) -> None:
        super().__init__(name="genro-obstore", daemon=True)
        self.calls: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]]] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            call, answer = self.calls.get()
            try:
                answer.put((call(), None))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                answer.put((None, error))
            del call, answer


_idle: list[_Helper] = []


def interruptible(call: Callable[[], T]) -> T:
    """`call()`; in the main thread on another one's back, for obstore itself does not notice signals."""
    if threading.get_ident() != _main:
        return call()
    helper = _idle.pop() if _idle else _Helper()
    answer: SimpleQueue[Any] = SimpleQueue()
    helper.calls.put((call, answer))
    result, error = answer.get()  # a signal's exception leaves the helper to end its call alone
    _idle.append(helper)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


_main = threading.main_thread().ident
_used = False
_forked = False
_inherited: list[Any] = []
"""Stores of the parent: nothing in a child may end their connections."""


def _after_fork() -> None:
    global _forked, _main
    _forked = _forked or _used
    _main = threading.main_thread().ident
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
