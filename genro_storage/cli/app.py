"""One run: arguments, signals, and the outermost handlers, so that every end is a sentence and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import warnings
from contextlib import AbstractContextManager, closing, nullcontext
from types import FrameType
from typing import Any

from .. import __version__
from ..exceptions import StorageError, StorageWarning
from .console import PROGRAM, Console, flush
from .failures import CLOSED_PIPE, OK, USAGE, CommandError, Interrupted
from .places import Places
from .session import Session

LOG_VARIABLES = ("LOG_LEVEL", "LOG_FORMAT", "LOG_FILE")
PATIENCE = 1.0
"""Seconds in which further signals are taken for the first one, sent twice."""


class Interrupts:
    """Makes SIGTERM end the command as Ctrl-C does: what is in flight is discarded first.

    A signal after that, once `PATIENCE` is over, leaves at once: a dead server may keep a request waiting for long.
    Where a parent made the shell ignore a signal (``nohup``, a background job), it stays ignored.
    """

    def __init__(self) -> None:
        self.code = 128 + signal.SIGINT
        self._first: float | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                try:
                    self._before[number] = signal.signal(number, self._received)
                except ValueError:  # not the main thread: signals are somebody else's
                    break
        return self

    def _received(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self.code = now, 128 + number
            raise KeyboardInterrupt
        if now - self._first > PATIENCE:
            os._exit(self.code)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def run(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; every exception ends here."""
    _usable_streams()
    console = Console(json="--json" in arguments)
    with Interrupts() as interrupts, warnings.catch_warnings():
        try:
            try:
                code = _command(arguments)
            except CommandError as error:
                code = console.error(error)
            except KeyboardInterrupt as signalled:
                code = console.error(Interrupted(interrupts.code, str(signalled)))
            flush()
            return code
        except BrokenPipeError:
            _silence()
            return CLOSED_PIPE
        except OSError as error:  # of the standard streams; a storage raises errors of ours
            _silence()
            return console.error(error)


def _usable_streams() -> None:
    """Replaces a stream that is closed, and a standard output without a buffer (``PYTHONUNBUFFERED``).

    The latter loses what a pipe does not take at once.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end of the process
    out = sys.stdout
    if isinstance(getattr(out, "buffer", None), io.RawIOBase):
        sys.stdout = open(out.fileno(), "w", encoding=out.encoding, closefd=False)  # noqa: SIM115 - likewise


def _command(arguments: list[str]) -> int:
    if arguments == ["--version"]:  # what scripts ask first waits for no parser
        print(f"{PROGRAM} {__version__}")
        return OK
    from .parser import main_parser, parse_verb, split_paths

    parser = main_parser()
    arguments, paths = split_paths(arguments)
    try:
        given = parser.parse_args(arguments)
        if given.version:
            print(f"{PROGRAM} {__version__}")
            return OK
        if given.command is None:
            print(parser.format_help(), file=sys.stderr, end="")
            return USAGE
        verb, options = parse_verb(given, paths)
    except SystemExit:  # argparse, after printing its help
        return OK
    console = Console(json=options.json, quiet=options.quiet, verbose=options.verbose, progress=not options.no_progress)
    _tell_warnings(console)
    try:
        with _logging(), closing(Places(options.config)) as places:
            return verb.run(Session(console, places), options)
    except (StorageError, CommandError) as error:
        return console.error(error)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the outermost handler: no end without a sentence
        return console.error(error)


def _logging() -> AbstractContextManager[None]:
    """The library's log, if the environment says that anybody wants it."""
    if not any(os.environ.get(name, "").strip() for name in LOG_VARIABLES):
        return nullcontext()
    from . import logs

    return logs.configured(os.environ)


def _tell_warnings(console: Console) -> None:
    """Warnings of the library are notes; others are for developers and stay silent unless asked for."""

    def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
        if issubclass(category, StorageWarning) or console.verbose > 1:
            console.note(f"warning: {message}")

    warnings.simplefilter("always", StorageWarning)
    warnings.showwarning = show


def _silence() -> None:
    """What is still buffered for a stream that takes no more goes nowhere, also at the end of the process."""
    void = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(void, stream.fileno())
    os.close(void)
