"""From the keys of an entry to a backend: which keys a type has, their aliases, conversions, and who is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..exceptions import StorageConfigError, StoragePathError
from .base import StorageBackend
from .options import Context, Options


def built(
    cls: Any, name: str, given: Mapping[str, Any], context: Context, spellings: Sequence[str] = ()
) -> StorageBackend:
    """A backend of class `cls`, the type `name`, from the keys of an entry.

    `spellings`: other keys that a wrong one may have meant. Raises `StorageConfigError` for a wrong, missing or
    contradicting key, and what the class raises.
    """
    kind = cls.Options
    keyword_only = kind is Options and cls.__init__ is not StorageBackend.__init__
    known = _keywords(cls) if keyword_only else _annotations(kind)
    keys = _canonical(name, given, cls.aliases, known, spellings)
    _require(keys, cls, kind, keyword_only)
    if keyword_only:
        backend: StorageBackend = cls(**keys)
        backend.options = backend.options or keys
        backend.context = context
        return backend
    if callable(keys.get("path")):
        return _switched(cls, keys, context)
    return _opened(cls, keys, context)


def _opened(cls: Any, keys: Mapping[str, Any], context: Context) -> StorageBackend:
    options = convert(keys, cls.Options)
    backend: StorageBackend = cls(options, context) if _takes_context(cls.__init__) else cls(options)
    backend.context = context
    return backend


def _takes_context(init: Any) -> bool:
    if hasattr(init, "__code__") and not hasattr(init, "__wrapped__"):
        code = init.__code__
        return "context" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    import inspect  # loads what parses Python

    return "context" in inspect.signature(init).parameters


def _switched(cls: Any, keys: dict[str, Any], context: Context) -> StorageBackend:
    """The backend of a `path` that is a function."""
    from .switched import Switched  # only few mounts need it

    resolve = keys.pop("path")
    # A type that must be told its path has it as a place of its own, a directory; elsewhere it is below the root.
    if "path" not in _required(cls.Options):
        return Switched(_opened(cls, keys, context), resolve)

    def opened(base: str) -> StorageBackend:
        if not os.path.isabs(base):
            raise StoragePathError(f"Path escapes base directory: {base!r} is not absolute")
        return _opened(cls, {**keys, "path": base}, context)

    return Switched(_opened(cls, {**keys, "path": os.sep}, context), resolve, opened)


def _keywords(cls: Any) -> tuple[str, ...]:
    import inspect

    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _annotations(kind: type) -> tuple[str, ...]:
    annotations = (key for base in reversed(kind.__mro__) for key in getattr(base, "__annotations__", ()))
    return tuple(key for key in annotations if not key.startswith("_"))


def _canonical(
    name: str, given: Mapping[str, Any], aliases: Mapping[str, str], known: tuple[str, ...], others: Sequence[str]
) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, value in given.items():
        canonical = aliases.get(key, key)
        if canonical not in known:
            spellings = [*known, *(alias for alias, target in aliases.items() if target in known), *others]
            import difflib

            near = difflib.get_close_matches(key, spellings, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(spellings))}"
            raise StorageConfigError(f"unknown key '{key}' for type '{name}'{hint}")
        if canonical in keys and keys[canonical] != value:
            raise StorageConfigError(f"'{key}' and '{canonical}' are the same key and were given different values")
        keys[canonical] = value
    return keys


def _require(keys: Mapping[str, Any], cls: Any, kind: Any, keyword_only: bool) -> None:
    if keyword_only:
        import inspect

        parameters = inspect.signature(cls.__init__).parameters.values()
        needed = [p.name for p in parameters if p.name in _keywords(cls) and p.default is p.empty]
    else:
        needed = _required(kind)
    for key in needed:
        if key not in keys:
            spellings = [alias for alias, target in cls.aliases.items() if target == key] + [key]
            raise StorageConfigError("missing required field: " + " or ".join(f"'{one}'" for one in spellings))


def _required(kind: Any) -> list[str]:
    """The keys without a default; of a dataclass none, `convert` names what is missing there."""
    if not issubclass(kind, msgspec.Struct):
        return []
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def fields_of(options: Any) -> dict[str, Any]:
    """The options of a backend as a dict."""
    if isinstance(options, msgspec.Struct):
        return msgspec.structs.asdict(options)
    return dict(options) if isinstance(options, Mapping) else {}


def convert(keys: Mapping[str, Any], kind: Any) -> Any:
    """`keys` as an options class; text from the environment is coerced; a wrong type is a `StorageConfigError`."""
    try:
        return msgspec.convert(dict(keys), kind, strict=False, dec_hook=parsed)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        if where:
            raise StorageConfigError(f"key '{where.rstrip('`')}': {text}") from None
        raise StorageConfigError(text) from None


def parsed(kind: Any, value: object) -> object:
    """A value of one of the types of `options`, for msgspec."""
    if hasattr(kind, "parse"):
        return kind.parse(value)
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise NotImplementedError
