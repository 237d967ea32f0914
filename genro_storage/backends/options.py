"""The keys of mount types: how configured values become sizes, durations, permission bits and secrets."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from .. import config


class Size(int):
    """Bytes; a configuration may also say ``"8MiB"``."""

    @classmethod
    def parse(cls, value: object) -> Self:
        return cls(config.parse_size(value))


class Duration(float):
    """Seconds; a configuration may also say ``"5m"``."""

    @classmethod
    def parse(cls, value: object) -> Self:
        return cls(config.parse_duration(value))


class Octal(int):
    """Permission bits; a configuration says ``"0640"`` or ``0o640``."""

    @classmethod
    def parse(cls, value: object) -> Self:
        return cls(config.parse_octal(value))


class Secret(str):
    """Text that is never shown."""

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, str):
            raise ValueError(f"expected text, got {type(value).__name__}")
        return cls(value)


class Options(Struct, frozen=True, kw_only=True):
    """The keys of a mount type. Every type with a root has `path`."""

    path: str = ""


class NetworkOptions(Options, frozen=True, kw_only=True):
    """The keys that every type behind a network shares; seconds per request."""

    timeout: Duration = Duration(60)
    connect_timeout: Duration = Duration(10)
    max_connections: int = 64


class Context(Struct, frozen=True):
    """What a backend may know of its mount: its name, the manager's identity, and where relative paths begin."""

    mount: str = ""
    manager: str = ""
    directory: str = ""
