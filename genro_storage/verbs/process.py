"""Running programs on nodes: each becomes a real file while the program runs."""

from __future__ import annotations

import contextvars
import logging
import shlex
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from ..mount import Level
from . import localfile

if TYPE_CHECKING:
    from ..nodes import StorageNode

_LOGGER = logging.getLogger("genro_storage.process")

Callback = Callable[[], object]
OnError = Callable[[BaseException], object]


class NodeArgument(NamedTuple):
    """A node as an argument of a program, and what the program does with it: ``r``, ``w`` or ``rw``."""

    node: StorageNode
    mode: str


def argument(node: StorageNode, mode: str) -> NodeArgument:
    """See `StorageNode.arg`."""
    if mode not in ("r", "w", "rw"):
        raise ValueError(f"arg mode is 'r', 'w' or 'rw', not {mode!r}")
    return NodeArgument(node, mode)


def call(args: tuple[Any, ...], callback: Callback | None, return_output: bool, options: dict[str, Any]) -> str | None:
    """Runs a program to its end; stores what it changed only if it succeeded."""
    if not args:
        raise ValueError("call needs a program to run")
    with ExitStack() as files:
        modes = _modes(args)
        where = {node: files.enter_context(localfile.local_path(node, mode)) for node, mode in modes.items()}
        command = [where[_meant(arg).node] if _is_node(arg) else arg for arg in args]
        output = _run(args, command, return_output, dict(options))
    if callback is not None:
        callback()
    return output


def _run(args: tuple[Any, ...], command: list[Any], return_output: bool, options: dict[str, Any]) -> str | None:
    line: Any = _shell_line(args, command) if options.get("shell") else command
    if not return_output:
        subprocess.run(line, check=True, **options)
        return None
    options = {"stderr": subprocess.PIPE, **options, "stdout": subprocess.PIPE}
    done = subprocess.run(line, check=True, **options)
    return done.stdout.decode("utf-8", "replace") if isinstance(done.stdout, bytes) else str(done.stdout)


def _shell_line(args: tuple[Any, ...], command: list[Any]) -> str:
    """One line for the shell: text as it was given, paths of nodes quoted."""
    return " ".join(shlex.quote(text) if _is_node(arg) else str(text) for arg, text in zip(args, command, strict=True))


def _modes(args: tuple[Any, ...]) -> dict[StorageNode, str]:
    """Each node once, with all that its arguments ask for: the program sees one file per node."""
    asked: dict[StorageNode, set[str]] = {}
    for node, mode in map(_meant, filter(_is_node, args)):
        asked.setdefault(node, set()).update(mode)
    return {node: "".join(sorted(letters)) for node, letters in asked.items()}


def _is_node(arg: Any) -> TypeGuard[StorageNode | NodeArgument]:
    return isinstance(arg, NodeArgument) or (hasattr(arg, "local_path") and hasattr(arg, "mount"))


def _meant(arg: StorageNode | NodeArgument) -> NodeArgument:
    if isinstance(arg, NodeArgument):
        return arg
    writable = arg.path and arg.version is None and arg.mount.level >= Level.readwrite
    return NodeArgument(arg, "rw" if writable else "r")


def spawn(
    args: tuple[Any, ...], callback: Callback | None, return_output: bool, options: dict[str, Any]
) -> Future[str | None]:
    """As `call`, in a thread of its own, which the interpreter waits for at its end."""
    if not args:
        raise ValueError("spawn needs a program to run")
    future: Future[str | None] = Future()
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()  # mounts may choose their folder by a ContextVar

    def work() -> None:
        try:
            future.set_result(context.run(call, args, callback, return_output, options))
        except BaseException as error:  # noqa: BLE001 - whoever holds the future learns of it
            future.set_exception(error)

    threading.Thread(target=work, name=f"genro-storage {args[0]}").start()
    return future


def background(
    args: tuple[Any, ...], callback: Callback | None, on_error: OnError | None, options: dict[str, Any]
) -> None:
    """As `spawn` for who keeps no handle: a failure goes to `on_error`, else to the log."""

    def ended(future: Future[str | None]) -> None:
        error = future.exception()
        if error is None:
            return
        if on_error is None:
            _LOGGER.error("a program in the background failed: %s", error, exc_info=error)
        else:
            on_error(error)

    spawn(args, callback, False, options).add_done_callback(ended)
