"""The reference of the command line tells every command and every option, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from genro_storage.cli.failures import (
    CLOSED_PIPE,
    CONFIGURATION,
    DENIED,
    DIFFERENT,
    FAILED,
    NOT_FOUND,
    OK,
    REFUSED,
    USAGE,
)
from genro_storage.cli.parser import Parser, add_globals, main_parser, verb_parser
from genro_storage.cli.registry import COMMANDS, verb

PAGE = (Path(__file__).parents[2] / "docs/reference/cli.rst").read_text(encoding="utf-8")
HELP = {"-h", "--help"}


def sections() -> dict[str, str]:
    """Heading → text below it."""
    parts = re.split(r"^(.+)\n(?:-{2,})\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(text: str) -> set[str]:
    """The options that the terms of a definition list name: lines of nothing but literals, an explanation below."""
    terms = re.findall(r"^(``-.*``)\n    \S", text, flags=re.MULTILINE)
    return {option for term in terms for option in re.findall(r"``(--?[\w-]+)", term)}


def options(parser: Parser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings} - HELP


def global_options() -> set[str]:
    parser = Parser()
    add_globals(parser)
    return options(parser)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_its_options(name: str) -> None:
    text = sections()[name]
    assert text.lstrip().startswith(f"``genro-storage {name}")
    assert documented(text) == options(verb_parser(name, verb(name))) - global_options()


def test_the_options_of_every_command() -> None:
    assert documented(sections()["Options of every command"]) - HELP == options(main_parser())


def test_the_choices_are_told() -> None:
    for name in COMMANDS:
        for action in verb_parser(name, verb(name))._actions:
            told = sections()["cp" if name in ("mv", "sync") else name]
            assert [choice for choice in action.choices or () if f"``{choice}``" not in told] == []


def test_no_command_that_is_not_there() -> None:
    named = {heading for heading, text in sections().items() if text.lstrip().startswith("``genro-storage ")}
    assert named == set(COMMANDS)
    assert set(re.findall(r"^   \$ genro-storage (?:--\w+ )*(?:mounts\.toml )?(\w+)", PAGE, re.MULTILINE)) <= named


def test_the_exit_codes() -> None:
    told = re.findall(r"^   \* - ([\d, ]+)$", sections()["Exit codes"], flags=re.MULTILINE)
    codes = {int(code) for line in told for code in line.split(",")}
    known = {OK, FAILED, USAGE, NOT_FOUND, DENIED, CONFIGURATION, DIFFERENT, REFUSED, CLOSED_PIPE}
    assert codes == known | {130, 143}
