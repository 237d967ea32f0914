"""What a comparison finds: the plan of a synchronisation, told instead of done."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from .plan import Action
from .report import DIFFERS, ONLY_DESTINATION, ONLY_SOURCE


def findings(plan: Iterator[Action]) -> Iterator[Action]:
    """The plan's actions as what they say of the two sides; files only."""
    for action in plan:
        if action.kind == "delete":
            if not action.entry.stat.is_dir or action.entry.stat.is_symlink:
                yield Action("skip", action.entry, ONLY_DESTINATION)
        elif action.doubt is not None:
            yield replace(action, reason=DIFFERS)
        elif action.kind in ("copy", "link"):
            yield Action("skip", action.entry, DIFFERS if action.exists else ONLY_SOURCE)
        elif action.kind != "mkdir":
            yield action
