"""Calls of a driver: when to try again, how long to wait, and what the user is told when it fails for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

from . import paths
from .exceptions import StorageError, TransferCancelled, from_builtin

FIRST_DELAY = 0.5

P = ParamSpec("P")
T = TypeVar("T")

Settle = Callable[[StorageError], Any]
"""Judges a refusal that follows a lost answer: our own success (the result, not None) or not (None)."""


class RetryPolicy(NamedTuple):
    """`retries` tries after the first; waits grow exponentially with full jitter, up to `max_delay` seconds."""

    retries: int = 3
    max_delay: float = 30.0
    sleep: Callable[[float], object] = time.sleep

    def allows(self, attempt: int, error: StorageError) -> bool:
        """Whether to try again after `attempt` retries ended in `error`."""
        return error.retryable and attempt < self.retries

    def wait(self, attempt: int, error: StorageError) -> None:
        """Waits before retry number `attempt` (from 0)."""
        self.sleep(self.delay(attempt, error))

    def delay(self, attempt: int, error: StorageError) -> float:
        """Seconds to wait before retry number `attempt` (from 0); a server's Retry-After goes before our own guess."""
        if error.retry_after is not None:
            return min(self.max_delay, error.retry_after)
        longest: float = min(self.max_delay, FIRST_DELAY * 2 ** min(attempt, 30))
        import random

        return longest * random.random()  # jitter needs no secrecy


DEFAULT_RETRY = RetryPolicy()
NO_RETRY = RetryPolicy(retries=0)


class Guard:
    """Calls a driver on behalf of one mount.

    The success path is one `try`; behind it errors become ours, tell mount, path and operation, and what may be
    repeated is repeated.
    """

    def __init__(
        self,
        mount: str,
        translate: Callable[[Exception], StorageError | None],
        policy: RetryPolicy = DEFAULT_RETRY,
        secrets: Sequence[str] = (),
    ) -> None:
        self.mount = mount
        self.translate = translate
        self.policy = policy
        self.secrets = tuple(secret for secret in secrets if secret)

    def call(self, operation: str, path: str, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`method(*args, **kwargs)`."""
        try:
            return method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a driver call: `failure` translates
            return self.again(error, operation, path, lambda: method(*args, **kwargs))

    def settled(self, operation: str, path: str, call: Callable[[], T], settle: Settle) -> T:
        """`call()`, a change whose answer may be lost: a refusal after a retry may be our own success."""
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - a driver call: `failure` translates
            return self.again(error, operation, path, call, settle)

    def again(
        self, error: Exception, operation: str, path: str, call: Callable[[], T], settle: Settle | None = None
    ) -> T:
        """Repeats `call` after it failed with `error`, as long as the policy allows; raises our error otherwise."""
        attempt = 0
        while True:
            failure = self.failure(error, operation, path)
            if attempt and settle and not failure.retryable:
                try:
                    if (result := settle(failure)) is not None:
                        return result  # type: ignore[no-any-return]
                except Exception as latest:  # noqa: BLE001 - a driver call, as below
                    unsure = self.failure(latest, operation, path)
                    if unsure.retryable or isinstance(unsure, TransferCancelled):
                        error, failure = latest, unsure
            self.wait_or_raise(attempt, failure, error)
            attempt += 1
            try:
                return call()
            except Exception as latest:  # noqa: BLE001 - a driver call, as above
                error = latest

    def wait_or_raise(self, attempt: int, failure: StorageError, error: Exception) -> None:
        """Waits before the next try if there may be one, else raises."""
        if not self.policy.allows(attempt, failure):
            raise failure from (failure.__cause__ if failure is error else error)
        self.policy.wait(attempt, failure)

    def failure(self, error: Exception, operation: str, path: str) -> StorageError:
        """Our error for any error, telling in the user's words where it happened."""
        failure = error if isinstance(error, StorageError) else self.translate(error) or from_builtin(error)
        if failure.mount is None:
            failure.mount, failure.path = self.mount, path
            failure.operation = failure.operation or operation
            failure.message = f"{self._redacted(failure.message)}: '{paths.full(self.mount, path)}'"
            failure.args = (failure.message,)
        return failure

    def _redacted(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text
