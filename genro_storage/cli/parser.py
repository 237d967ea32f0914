"""From arguments to a verb and its options; only the parser that is needed is made."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

from .console import PROGRAM
from .failures import UsageError
from .registry import COMMANDS, Verb, verb


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def number(text: str) -> int:
    """A count from 0 up."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 up, not {text!r}")
    return value


def duration(text: str) -> float:
    """Seconds, as a number or as text like ``90s``, ``5m``, ``1h`` or ``7d``."""
    from ..config import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected seconds, or a time as 5m, 1h or 7d, not {text!r}") from error


def add_globals(parser: argparse.ArgumentParser, *, default: object = None) -> None:
    """The options that every command takes; with SUPPRESS those given before the command stay."""
    group = parser.add_argument_group("options of every command")
    off = False if default is None else default
    group.add_argument(
        "--config",
        metavar="FILE",
        default=default,
        help="the configuration of the mounts, instead of the discovered one",
    )
    group.add_argument(
        "--json", action="store_true", default=off, help="one JSON object per line; errors as objects on stderr"
    )
    group.add_argument("-q", dest="quiet", action="store_true", default=off, help="no report, no progress, no notes")
    group.add_argument(
        "-v",
        dest="verbose",
        action="count",
        default=0 if default is None else default,
        help="more details; -vv also tracebacks",
    )
    group.add_argument("--no-progress", action="store_true", default=off, help="no progress on the terminal")


def _help_width() -> int:
    """The columns of a help text: argparse would ask shutil, which loads three compressions with it."""
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted) - 2
    try:
        return (os.get_terminal_size(1).columns or 80) - 2
    except OSError:
        return 78


def main_parser() -> Parser:
    """The parser of what stands before the command's own arguments."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [options] COMMAND [options] [PATH…]",
        description="Files on any storage: local names, mount:path and URLs.",
        epilog=f"commands:\n{listed}\n\n'{PROGRAM} COMMAND --help' tells all of a command.",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=_help_width()),
        allow_abbrev=False,
    )
    add_globals(parser)
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def verb_parser(name: str, chosen: Verb) -> Parser:
    """The parser of one command."""
    summary = COMMANDS[name][1]
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {name} [options] {chosen.paths}".rstrip(),
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_help_width()),
        allow_abbrev=False,
    )
    chosen.options(parser)
    add_globals(parser, default=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    return parser


def split_paths(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before ``--``, and the paths after it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def parse_verb(given: argparse.Namespace, paths: list[str]) -> tuple[Verb, argparse.Namespace]:
    """The command and all of its arguments; options and paths may be mixed. `paths`: what followed ``--``."""
    name = given.command
    if name not in COMMANDS:
        raise UsageError(_unknown(name))
    chosen = verb(name)
    parser = verb_parser(name, chosen)
    options = parser.parse_intermixed_args(given.arguments, given)
    options.paths = [*options.paths, *paths]
    if len(options.paths) < chosen.least:
        parser.error(f"expected {chosen.paths}")
    if options.paths and not chosen.paths:
        parser.error(f"takes no path: {options.paths[0]!r}")
    return chosen, options


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"commands: {', '.join(COMMANDS)}"
    return f"unknown command '{name}'; {hint}"
