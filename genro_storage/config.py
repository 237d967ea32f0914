"""Parsing of configuration: sources to entries, ``${VAR}``, sizes, durations; nothing here knows a backend."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from .exceptions import StorageConfigError, StorageConfigNotFoundError, StorageDriverError

ENVIRONMENT = "GENRO_STORAGE_CONFIG"
SUFFIXES = (".toml", ".yaml", ".yml", ".json")

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Config(Struct, frozen=True):
    """What one source says: entries in its order, where its relative paths begin, and what to call it in errors."""

    mounts: list[dict[str, Any]] = []
    urls: bool = False
    builtin_mounts: bool = False
    directory: str = ""
    origin: str = ""


def load(source: object, *, interpolate: bool = True) -> Config:
    """Reads a `str` or `Path` to a file, a list of entries, or a dict in one of its three shapes.

    Another type is a `TypeError`; a missing file `StorageConfigNotFoundError`; a bad one `StorageConfigError`.
    """
    if isinstance(source, (str, os.PathLike)):
        file = Path(source).expanduser()
        content, origin, directory = read_file(file), str(file), str(file.absolute().parent)
    elif isinstance(source, (list, tuple, Mapping)):
        content, origin, directory = source, "", os.getcwd()
    else:
        raise TypeError(f"a configuration is a path, a list or a dict, not {type(source).__name__}")
    try:
        return _shaped(content, interpolate, directory, origin)
    except StorageConfigError as error:
        if origin:
            raise StorageConfigError(f"{origin}: {error}") from None
        raise


def read_file(file: Path) -> object:
    """The parsed content of one configuration file, by its suffix."""
    if file.suffix.lower() not in SUFFIXES:
        raise StorageConfigError(f"{file}: a configuration file ends in {', '.join(SUFFIXES)}")
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise StorageConfigNotFoundError(f"configuration file not found: {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StorageConfigError(f"{file}: cannot be read: {error}") from error
    return parse(text, file.suffix.lower(), str(file))


def parse(text: str, suffix: str, origin: str) -> object:
    """The content of TOML, JSON or YAML text; a syntax error tells file and line."""
    if suffix == ".toml":
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise StorageConfigError(f"{origin}: {error}") from error
    if suffix == ".json":
        import json

        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise StorageConfigError(f"{origin}, line {error.lineno}: {error.msg}") from error
    try:
        import yaml
    except ImportError as error:
        raise StorageDriverError(f"{origin} needs PyYAML: pip install 'genro-storage[yaml]', or write TOML") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise StorageConfigError(f"{origin}{line}: {getattr(error, 'problem', None) or error}") from error


def discover(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Config | None:
    """The configuration of the default manager: the first place that exists wins; None if there is none."""
    environ = os.environ if environ is None else environ
    directory = directory or Path.cwd()
    if named := environ.get(ENVIRONMENT):
        return load(named)
    for name in ("genro_storage.toml", "genro_storage.yaml", "genro_storage.json"):
        if (directory / name).is_file():
            return load(directory / name)
    if found := _from_pyproject(directory / "pyproject.toml"):
        return found
    for suffix in ("toml", "yaml", "json"):
        if (file := user_directory(environ) / f"config.{suffix}").is_file():
            return load(file)
    return None


def _from_pyproject(file: Path) -> Config | None:
    if not file.is_file():
        return None
    content = read_file(file)
    table = content.get("tool", {}).get("genro_storage") if isinstance(content, dict) else None
    if table is None:
        return None
    origin = f"{file} [tool.genro_storage]"
    try:
        return _shaped(table, True, str(file.absolute().parent), origin)
    except StorageConfigError as error:
        raise StorageConfigError(f"{origin}: {error}") from None


def user_directory(environ: Mapping[str, str]) -> Path:
    """The user's own configuration directory for this product."""
    if sys.platform == "win32":
        base = environ.get("APPDATA") or str(Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Application Support")
    else:
        base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "genro_storage"


def _shaped(content: object, interpolate: bool, directory: str, origin: str) -> Config:
    flags = {"urls": False, "builtin_mounts": False}
    entries: object = content
    if isinstance(content, Mapping) and "mounts" in content and not isinstance(content.get("name"), str):
        unknown = sorted(set(content) - {"mounts", *flags})
        if unknown:
            raise StorageConfigError(f"unknown key {unknown[0]!r} beside 'mounts'; known: builtin_mounts, mounts, urls")
        for key in flags:
            if not isinstance(content.get(key, False), bool):
                raise StorageConfigError(f"'{key}' is true or false, not {content[key]!r}")
            flags[key] = content.get(key, False)
        entries = content["mounts"] or []
    elif isinstance(content, Mapping) and isinstance(content.get("name"), str):
        entries = [content]
    elif (
        isinstance(content, Mapping)
        and set(content) & set(flags)
        and not any(isinstance(content[key], Mapping) for key in set(content) & set(flags))
    ):
        return _shaped(
            {
                "mounts": {k: v for k, v in content.items() if k not in flags},
                **{k: content[k] for k in flags if k in content},
            },
            interpolate,
            directory,
            origin,
        )
    mounts = [_interpolated(entry) if interpolate else entry for entry in _entries(entries)]
    return Config(mounts, **flags, directory=directory, origin=origin)


def _entries(entries: object) -> Iterator[dict[str, Any]]:
    if isinstance(entries, Mapping):
        for name, entry in entries.items():
            if not isinstance(entry, Mapping):
                raise StorageConfigError(f"mount {name!r}: an entry is a table of keys, not {type(entry).__name__}")
            if entry.get("name", name) != name:
                raise StorageConfigError(f"mount {name!r}: its 'name' says {entry['name']!r}")
            yield {"name": name, **entry}
    elif isinstance(entries, (list, tuple)):
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, Mapping):
                raise StorageConfigError(f"entry {number}: an entry is a table of keys, not {type(entry).__name__}")
            yield dict(entry)
    else:
        raise StorageConfigError(f"mounts are a list or a table, not {type(entries).__name__}")


_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[^}:]*)(?P<default>:-(?P<text>[^}]*))?\})")


def _interpolated(entry: dict[str, Any]) -> dict[str, Any]:
    mount = entry.get("name", "?")
    return {key: _filled(value, f"mount {mount!r}, key {key!r}") for key, value in entry.items()}


def _filled(value: Any, where: str) -> Any:
    if isinstance(value, str) and "$" in value:
        return _VARIABLE.sub(lambda match: _variable(match, where), value)
    if isinstance(value, Mapping):
        return {key: _filled(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(inner, where) for inner in value]
    return value


def _variable(match: re.Match[str], where: str) -> str:
    name = match["name"]
    if name is None:
        return "$"
    value = os.environ.get(name)
    if value is None or (value == "" and match["default"]):
        if not match["default"]:
            raise StorageConfigError(f"{where}: the environment variable '{name}' is not set and has no ':-default'")
        return match["text"].replace("$$", "$")
    return value


def parse_size(value: object) -> int:
    """Bytes from an int or from text such as ``"8MiB"`` or ``"8MB"``, powers of 1024; else `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (
        match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*", value, re.IGNORECASE)
    ):
        return int(float(match[1]) * _UNITS[match[2].lower()])
    raise ValueError(f"expected a size such as 1048576 or '8MiB', got {value!r}")


def parse_duration(value: object) -> float:
    """Seconds from a number or from text such as ``"5m"`` or ``"1.5h"``; else `ValueError`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if (
        isinstance(value, str)
        and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", value))
        and match[2] in _SECONDS
    ):
        return float(match[1]) * _SECONDS[match[2]]
    raise ValueError(f"expected a duration such as 30 or '5m', got {value!r}")


def parse_octal(value: object) -> int:
    """Permission bits from an int or from octal text such as ``"0640"``; else `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o7777:
        return value
    if isinstance(value, str) and re.fullmatch(r"(0o?)?[0-7]{1,4}", value):
        return int(value.removeprefix("0o"), 8)
    raise ValueError(f"expected octal permission bits such as '0640', got {value!r}")
