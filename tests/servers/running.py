"""A server for as long as a fixture lives; what happens when it is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import NoReturn, TypeVar

import pytest

from .process import ServerMissing

MISSING = "SERVER MISSING: "
Server = TypeVar("Server", bound=AbstractContextManager[object])


def miss(missing: ServerMissing) -> NoReturn:
    """Skip the test loudly, or fail it where GENRO_REQUIRE_SERVERS is set."""
    if os.environ.get("GENRO_REQUIRE_SERVERS"):
        raise missing
    pytest.skip(f"{MISSING}{missing}")


def running(server: Server) -> Iterator[Server]:
    """A server for the session; one that is not installed skips loudly, or fails where GENRO_REQUIRE_SERVERS is set."""
    with ExitStack() as stack:
        try:
            stack.enter_context(server)
        except ServerMissing as missing:
            miss(missing)
        yield server
