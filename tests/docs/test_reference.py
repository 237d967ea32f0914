"""What is public is documented: every name of the package, every key of every mount type, every common key."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any

import msgspec
import pytest

import genro_storage
from genro_storage import table
from genro_storage.backends import _BUILTIN, ALIASES, backend_class
from genro_storage.backends.options import NetworkOptions

DOCS = Path(__file__).parents[2] / "docs"
NETWORK = set(NetworkOptions.__struct_fields__) - {"path"}


def documented_names() -> list[str]:
    """What the autodoc directives of the reference name."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.rst")))
    return re.findall(r"^\.\. auto\w+:: genro_storage\.(\w+)$", pages, flags=re.MULTILINE)


def first_column(page: Path) -> list[str]:
    """The literals in the first column of the list-tables of a page whose heading is "key"."""
    tables = re.split(r"^\.\. list-table::", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    keys: list[str] = []
    for text in tables:
        cells = re.findall(r"^   \* - (.*)$", text, flags=re.MULTILINE)
        if cells and cells[0] == "key":
            keys += [key for cell in cells[1:] for key in re.findall(r"``(\w+)``", cell)]
    return keys


def test_every_public_name_is_in_the_reference_once() -> None:
    names = documented_names()
    assert sorted(names) == sorted(set(genro_storage.__all__) - {"__version__"})


@pytest.mark.parametrize("package", ["records", "sessions", "testing"])
def test_every_class_and_function_of_a_package_is_in_the_reference(package: str) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst"))
    told = re.findall(r"^\.\. auto(\w+):: genro_storage\.([\w.]+)$", pages, flags=re.MULTILINE)
    names = {name.rpartition(".")[2] for kind, name in told if kind != "module"}
    modules = {f"genro_storage.{name}" for kind, name in told if kind == "module"}
    public = {
        name: value.__module__
        for name, value in vars(import_module(f"genro_storage.{package}")).items()
        if not name.startswith("_") and (isclass(value) or isfunction(value)) and value.__module__.startswith("genro_")
    }
    assert len(public) > 5
    assert [name for name, module in public.items() if name not in names and module not in modules] == []


@pytest.mark.parametrize("kind", sorted(_BUILTIN))
def test_the_page_of_a_type_lists_exactly_its_keys(kind: str) -> None:
    cls: Any = backend_class(kind)
    fields = set(cls.Options.__struct_fields__)
    aliases = {alias for alias, key in cls.aliases.items() if key in fields}
    page = DOCS / "backends" / f"{kind}.rst"
    own = fields - (NETWORK if issubclass(cls.Options, NetworkOptions) else set())
    assert sorted(first_column(page)) == sorted(own | aliases)
    if issubclass(cls.Options, NetworkOptions):
        assert ":ref:`network-keys`" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(_BUILTIN))
def test_the_defaults_it_tells_are_true(kind: str) -> None:
    """Where the table gives a plain literal as the default, it is the one in the code."""
    text = (DOCS / "backends" / f"{kind}.rst").read_text(encoding="utf-8")
    told = dict(re.findall(r"^   \* - ``(\w+)``.*\n     - ``([^`]*)``$", text, flags=re.MULTILINE))
    defaults = {
        field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(backend_class(kind).Options)
        if not field.required
    }
    assert {key: text for key, text in told.items() if text != spelled(defaults[key])} == {}


def spelled(value: object) -> str:
    """A default as a configuration file writes it."""
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def test_the_common_keys_and_the_network_keys_are_listed() -> None:
    keys = first_column(DOCS / "howto" / "configuration.rst")
    assert sorted(keys) == sorted({*table._COMMON, *NETWORK})


def test_every_type_and_alias_is_in_the_index() -> None:
    text = (DOCS / "backends" / "index.rst").read_text(encoding="utf-8")
    assert [name for name in (*_BUILTIN, *ALIASES) if f"``{name}``" not in text] == []
