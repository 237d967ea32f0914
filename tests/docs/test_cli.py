"""The reference of the command line tells every command and every option, and none that is not there."""

from __future__ import annotations

import re
import shlex
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
from genro_storage.cli.parser import Parser, add_globals, main_parser, parse_verb, split_paths, verb_parser
from genro_storage.cli.registry import COMMANDS, verb

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/cli.rst").read_text(encoding="utf-8")
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


def shown() -> list[tuple[str, str]]:
    """Page and arguments of every command that any page shows after a prompt."""
    found = []
    for page in (*sorted((ROOT / "docs").rglob("*.rst")), ROOT / "README.rst"):
        typed = "\n".join(re.findall(r"^ +\$ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        lines = re.findall(r"(?:^|\| |\$\()genro-storage ([^|>)\n]+)", typed, flags=re.MULTILINE)
        found += [(page.name, line.strip()) for line in lines]
    return found


@pytest.mark.parametrize(("page", "line"), shown())
def test_every_command_that_is_shown_can_be_typed(page: str, line: str) -> None:
    arguments, paths = split_paths(shlex.split(line))
    given = main_parser().parse_args(arguments)
    assert given.version or parse_verb(given, paths), page


def test_commands_are_shown() -> None:
    assert len(shown()) > 40
    assert {line.split()[0] for page, line in shown() if page == "command_line.rst"} > {
        "sync",
        "check",
        "cleanup",
        "url",
    }
