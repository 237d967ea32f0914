"""The guard: what is repeated, what is not, and what an error tells."""

from __future__ import annotations

import pytest

from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePermissionError,
    StorageQuotaError,
    StorageTimeoutError,
    StorageUnavailableError,
    TransferCancelled,
)
from genro_storage.retry import Guard, RetryPolicy


class Driver:
    """Fails as told, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def answer(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def guard(slept: list[float], retries: int = 3, **options: object) -> Guard:
    return Guard("m", lambda error: None, RetryPolicy(retries, 30.0, slept.append), **options)  # type: ignore[arg-type]


def test_only_what_may_help_is_repeated() -> None:
    slept: list[float] = []
    driver = Driver(ConnectionResetError(), StorageUnavailableError("slow", retry_after=7))
    assert guard(slept).call("read", "a", driver.answer) == "answer"
    assert driver.calls == 3
    assert 0 <= slept[0] <= 0.5
    assert slept[1] == 7
    driver = Driver(PermissionError(13, "no"))
    with pytest.raises(StoragePermissionError):
        guard(slept).call("read", "a", driver.answer)
    assert driver.calls == 1


def test_retries_end() -> None:
    slept: list[float] = []
    driver = Driver(*[TimeoutError("t")] * 9)
    with pytest.raises(StorageTimeoutError) as caught:
        guard(slept, 2).call("read", "a", driver.answer)
    assert driver.calls == 3
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_delays_grow_with_jitter_and_stay_bounded() -> None:
    policy = RetryPolicy(9, 4.0)
    error = StorageUnavailableError("x")
    for attempt in range(9):
        drawn = [policy.delay(attempt, error) for _ in range(200)]
        assert min(drawn) >= 0
        assert max(drawn) <= min(4.0, 0.5 * 2**attempt)
        assert len(set(drawn)) > 100
    assert policy.delay(0, StorageUnavailableError("x", retry_after=99)) == 4.0


def test_a_refusal_after_a_lost_answer_may_be_our_own_success() -> None:
    slept: list[float] = []
    driver = Driver(ConnectionResetError(), StorageExistsError("there"))
    assert guard(slept).settled("write", "a", driver.answer, lambda failure: "ours") == "ours"
    driver = Driver(ConnectionResetError(), StorageConflictError("there"))
    with pytest.raises(StorageConflictError):
        guard(slept).settled("write", "a", driver.answer, lambda failure: None)
    driver = Driver(StorageExistsError("there"))
    with pytest.raises(StorageExistsError):
        guard(slept).settled("write", "a", driver.answer, lambda failure: "ours")


def test_a_look_that_fails_is_repeated_like_any_call() -> None:
    """Whether a refusal is our own success: what asks that may meet the same bad line."""
    lost, there = ConnectionResetError(), StorageExistsError("there")
    looks = Driver(ConnectionResetError())
    driver = Driver(lost, there, there)
    assert guard([]).settled("write", "a", driver.answer, lambda failure: looks.answer()) == "answer"
    driver = Driver(lost, there)
    with pytest.raises(StorageExistsError, match="'m:a'"):  # nobody may look: then it is as the server said
        guard([]).settled("write", "a", driver.answer, lambda failure: Driver(PermissionError(13, "no")).answer())
    with pytest.raises(TransferCancelled):
        guard([]).settled(
            "copy", "a", Driver(lost, there).answer, lambda failure: Driver(TransferCancelled("stop")).answer()
        )


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (FileNotFoundError(2, "x"), StorageNotFoundError),
        (OSError(28, "x"), StorageQuotaError),
        (KeyError("odd"), StorageError),
        (UnicodeEncodeError("utf-8", "\udc80", 0, 1, "x"), StorageError),
    ],
)
def test_every_error_becomes_ours_and_tells_where(raised: Exception, expected: type[StorageError]) -> None:
    with pytest.raises(expected) as caught:
        guard([]).call("stat", "d/f", Driver(raised).answer)
    assert (caught.value.mount, caught.value.path, caught.value.operation) == ("m", "d/f", "stat")
    assert "'m:d/f'" in str(caught.value)
    assert caught.value.__cause__ is raised


def test_secrets_are_never_told() -> None:
    with pytest.raises(StorageError, match=r"login with \*\*\* failed") as caught:
        guard([], secrets=["hunter2"]).call("stat", "a", Driver(RuntimeError("login with hunter2 failed")).answer)
    assert "hunter2" not in str(caught.value)


def test_however_many_tries_the_wait_is_bounded() -> None:
    policy = RetryPolicy(10_000, 30.0)
    assert all(0 <= policy.delay(attempt, StorageTimeoutError()) <= 30 for attempt in (0, 10, 64, 5000))
