"""What a comparison finds: the plan of a synchronisation, told instead of done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from .plan import Action, Entry
from .report import DIFFERS, ONLY_DESTINATION, ONLY_SOURCE
from .skips import Doubt


def findings(plan: Iterator[Action], untold: Callable[[], Iterable[Action]] = tuple) -> Iterator[Action]:
    """The plan's actions as what they say of the two sides; files only.

    `untold`: the failures that the listing of the second side met since it was asked last. What lies below a directory
    that one side cannot list is on nobody's side: nothing is said of it.
    """
    hidden: list[bytes] = []
    for action in plan:
        yield from _noted(untold(), hidden)
        key = action.entry.key
        if action.error is not None:
            yield from _noted((action,), hidden)
            continue
        if hidden:  # nothing comes after what lies below a directory that lies below it too
            hidden = [above for above in hidden if key <= above or key.startswith(above)]
        if not any(key.startswith(above) for above in hidden) and (found := _found(action)) is not None:
            yield found
    yield from _noted(untold(), hidden)


def _noted(failures: Iterable[Action], hidden: list[bytes]) -> Iterator[Action]:
    """Failures, once the directories among them are known as hidden."""
    for action in failures:
        if action.entry.unlisted:
            hidden.append(_key(action.entry))
        yield action


def _key(directory: Entry) -> bytes:
    return directory.relpath.encode("utf-8", "surrogateescape") + b"/"


def _found(action: Action) -> Action | None:
    if action.kind == "delete":
        is_file = not action.entry.stat.is_dir or action.entry.stat.is_symlink
        return Action("skip", action.entry, ONLY_DESTINATION) if is_file else None
    if action.doubt is not None:
        return replace(action, reason=DIFFERS)
    if action.kind == "copy" and action.there is not None and None in (action.entry.stat.size, action.there.size):
        return replace(action, doubt=Doubt.CONTENT, reason=DIFFERS)  # reading tells, or why it cannot be told
    if action.kind in ("copy", "link"):
        return Action("skip", action.entry, DIFFERS if action.exists else ONLY_SOURCE)
    return None if action.kind == "mkdir" else action
