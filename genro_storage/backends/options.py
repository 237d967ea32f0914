"""The keys of mount types: how configured values become sizes, durations, permission bits and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

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


class Url(str):
    """A URL; one with a password in it is never shown."""

    @classmethod
    def parse(cls, value: object) -> Self:
        if not isinstance(value, str):
            raise ValueError(f"expected a URL, got {type(value).__name__}")
        return (SecretUrl if _password(value) else cls)(value)  # type: ignore[return-value]


class SecretUrl(Url, Secret):
    """A URL with a password in it."""


_TELLING = re.compile("secret|passw|passphrase|token|credential|signature|sas|(^|_)key($|_)", re.IGNORECASE)
"""Names of the settings that go on to a driver's library and that nobody else should see."""


def shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for people's eyes: every secret is ``***``, those inside the settings of a driver's library too."""
    return {key: _shown(key, value, nested=False) for key, value in options.items()}


def _shown(key: str, value: object, *, nested: bool) -> object:
    if isinstance(value, Mapping):
        return {name: _shown(str(name), inner, nested=True) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(key, one, nested=nested) for one in value]
    return "***" if _is_secret(key, value, nested) else value


def secrets_in(options: Mapping[str, Any], *, nested: bool = False) -> Iterator[str]:
    """The texts that no message may hold: what `shown` hides, and passwords inside URLs."""
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from secrets_in(value, nested=True)
        elif isinstance(value, list | tuple):
            for one in value:
                yield from secrets_in({key: one}, nested=nested)
        elif _is_secret(str(key), value, nested) and isinstance(value, str):
            yield value
            if password := _password(value):
                yield password


def _is_secret(key: str, value: object, nested: bool) -> bool:
    if isinstance(value, Secret):
        return True
    return nested and value is not None and bool(_TELLING.search(key) or (isinstance(value, str) and _password(value)))


def _password(text: str) -> str | None:
    try:
        return urlsplit(text).password if "@" in text else None
    except ValueError:  # not a URL
        return None


class Options(Struct, frozen=True, kw_only=True):
    """The keys of a mount type. Every type with a root has `path`."""

    path: str = ""

    def __repr__(self) -> str:
        """Without a secret: options get into logs by their containers' repr."""
        fields = shown({name: getattr(self, name) for name in self.__struct_fields__})
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


class NetworkOptions(Options, frozen=True, kw_only=True):
    """The keys that every type behind a network shares; seconds per request."""

    timeout: Duration = Duration(60)
    connect_timeout: Duration = Duration(10)
    max_connections: int = 64


class Context(Struct, frozen=True):
    """What a backend may know of its mount: its name, the manager's identity, where relative paths begin.

    `stands_on`: the (`Mount`, path) that its configuration names, where the type stands on another mount.
    """

    mount: str = ""
    manager: str = ""
    directory: str = ""
    stands_on: Any = None
