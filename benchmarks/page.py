"""From figures to docs/benchmarks.rst: tables between two marks of the page, and a plot beside it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = ".. transfer figures, written by benchmarks/transfer.py", ".. end of transfer figures"
OURS = "genro-storage"
MOST_MEMORY = 64 << 20
"""Bytes above idle, at the peak."""
START_BARS = {"genro-storage --version": (3, 0.0), "genro-storage ls": (5, 0.05)}
"""How many times `python -c pass`, and seconds on top."""
LIBRARIES = ("obstore", "boto3", "s3fs", "smart_open", "cloudpathlib", "universal_pathlib", "aiobotocore")


def ratio(result: Mapping[str, Any], bar: str) -> float:
    """Ours beside a peer: times as fast, or the part of its processor time."""
    peer, _, kind = bar.partition(" ")
    costs = result["costs"]
    theirs = next(cost for name, cost in costs.items() if name.partition(",")[0] == peer)
    return float(costs[OURS]["cpu"] / theirs["cpu"] if kind else theirs["wall"] / costs[OURS]["wall"])


def judged(result: Mapping[str, Any]) -> Iterator[tuple[str, float, float, bool]]:
    """(bar, figure, limit, held) of the bars whose peer was measured."""
    measured = {name.partition(",")[0] for name in result["costs"]}
    for bar, limit in result["bars"].items():
        if bar.partition(" ")[0] in measured:
            figure = round(ratio(result, bar), 2)
            yield bar, figure, limit, figure <= limit if bar.endswith(" cpu") else figure >= limit


def memory(result: Mapping[str, Any]) -> tuple[float, bool]:
    """MiB of ours above idle, at the peak, and whether that is within the bar."""
    above = max(0, result["costs"][OURS]["memory"] - result["idle"])
    return above / (1 << 20), above <= MOST_MEMORY


def start_judged(result: Mapping[str, float]) -> Iterator[tuple[str, float, float, bool]]:
    bare = result["python -c pass"]
    for name, (times, extra) in START_BARS.items():
        yield name, result[name], bare * times + extra, result[name] <= bare * times + extra


def held(results: Mapping[str, Any]) -> bool:
    """Whether every bar was reached."""
    rows = {name: row for name, row in results.items() if name != "start"}
    starts = [good for name, row in results.items() if name == "start" for *_, good in start_judged(row)]
    return all(
        [
            *starts,
            *(good for row in rows.values() for *_, good in judged(row)),
            *(memory(row)[1] for row in rows.values()),
        ]
    )


def text(name: str, result: Mapping[str, Any]) -> str:
    """A row for the terminal."""
    if name == "start":
        return "\n".join(
            f"{label:<28} {figure * 1e3:6.1f} ms, bar {limit * 1e3:6.1f} {'' if good else 'MISSED'}"
            for label, figure, limit, good in start_judged(result)
        )
    lines = [f"{result['title']}, {result['server']}".rstrip(", ")]
    for peer, cost in ranked(result):
        speed = result["amount"] / cost["wall"]
        lines.append(
            f"  {peer:<16} {speed:8.0f} {result['unit']} {cost['wall']:7.2f} s {cost['cpu']:7.2f} CPU-s "
            f"{cost['memory'] >> 20:5} MiB"
        )
    for bar, figure, limit, good in judged(result):
        lines.append(f"  ours beside {bar}: {figure:.2f}, bar {limit} {'' if good else 'MISSED'}")
    above, good = memory(result)
    lines.append(f"  ours above idle: {above:.0f} MiB, bar 64 {'' if good else 'MISSED'}")
    lines += [f"  not measured: {peer}: {reason}" for peer, reason in result["missing"].items()]
    return "\n".join(lines)


def ranked(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(result["costs"].items(), key=lambda item: item[1]["wall"])


# --- the page ---


def write(results: Mapping[str, Any]) -> None:
    """Puts the tables between the marks of docs/benchmarks.rst, and the plot beside it."""
    file = DOCS / "benchmarks.rst"
    page = file.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest:
        before, after = page.rstrip() + "\n\n", "\n"
    rows = {name: row for name, row in results.items() if name != "start"}
    body = f"{versions()}\n\n.. image:: benchmarks.svg\n   :alt: speed beside the fastest peers\n\n"
    body += "\n".join(table(row) for row in rows.values())
    if "start" in results:
        body += start_table(results["start"])
    file.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")
    (DOCS / "benchmarks.svg").write_text(plot(rows))


def versions() -> str:
    def of(library: str) -> str:
        try:
            return f"{library} {importlib.metadata.version(library)}"
        except importlib.metadata.PackageNotFoundError:
            return ""

    named = [of(library) for library in LIBRARIES] + [_said("s5cmd", "version"), _said("rclone", "version")]
    told = ", ".join(filter(None, named))
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}; {told}."


def _said(name: str, *arguments: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        return ""
    told = subprocess.run([path, *arguments], capture_output=True, text=True, check=False).stdout.splitlines()
    version = told[0].split("-")[0].removeprefix("rclone ") if told else ""
    return f"{name} {version}".strip()


def table(result: Mapping[str, Any]) -> str:
    title = f"{result['title']}, {result['server']}".rstrip(", ")
    lines = [title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1", ""]
    lines += _cells("", result["unit"], "seconds", "CPU seconds", "peak MiB", "files at once", "runs")
    for peer, cost in ranked(result):
        name = f"**{peer}**" if peer == OURS else peer
        width = str(cost["width"]) if cost["width"] else "own choice"
        speed = f"{result['amount'] / cost['wall']:,.0f}"
        costs = f"{cost['wall']:.2f}", f"{cost['cpu']:.2f}", str(cost["memory"] >> 20)
        lines += _cells(name, speed, *costs, width, str(cost["runs"]))
    told = [
        f"{'' if good else '**missed:** '}{_phrase(bar)} {figure:.2f} (bar {limit})"
        for bar, figure, limit, good in judged(result)
    ]
    above, good = memory(result)
    lines += ["", f"Medians. Ours {'above' if good else '**missed:** above'} idle: {above:.0f} MiB (bar 64)."]
    if told:
        lines[-1] += f" Ours beside: {'; '.join(told)}."
    if result["missing"]:
        lines += ["", f"Not measured: {'; '.join(f'{peer} ({why})' for peer, why in result['missing'].items())}."]
    return "\n".join([*lines, "", ""])


def _phrase(bar: str) -> str:
    peer, _, kind = bar.partition(" ")
    return f"{peer}, processor time" if kind else peer


def start_table(result: Mapping[str, float]) -> str:
    lines = ["Starting", "--------", "", ".. list-table::", "   :header-rows: 1", ""]
    lines += _cells("", "ms", "bar")
    lines += _cells("python -c pass", f"{result['python -c pass'] * 1e3:.1f}", "")
    for name, figure, limit, good in start_judged(result):
        lines += _cells(name, f"{figure * 1e3:.1f}", f"{limit * 1e3:.1f}{'' if good else ' **missed**'}")
    return "\n".join([*lines, "", ""])


def _cells(*texts: str) -> list[str]:
    return [f"   {'*' if number == 0 else ' '} - {text}" for number, text in enumerate(texts)]


# --- the plot ---

BAR, LEFT, WIDTH = 16, 150, 460


def plot(rows: Mapping[str, Any]) -> str:
    """Bars of speed, the longest of each row over the whole width."""
    parts, top = [], 24
    for row in rows.values():
        title = f"{row['title']}, {row['server']} ({row['unit']})".replace(",  (", " (")
        parts.append(f'<text x="8" y="{top}" font-weight="bold">{escape(title)}</text>')
        best = max(row["amount"] / cost["wall"] for cost in row["costs"].values())
        for peer, cost in ranked(row):
            top += BAR + 4
            speed = row["amount"] / cost["wall"]
            length, colour = max(1, round(WIDTH * speed / best)), "#0b6e4f" if peer == OURS else "#9aa5b1"
            parts.append(f'<text x="{LEFT - 6}" y="{top}" text-anchor="end">{escape(peer)}</text>')
            parts.append(
                f'<rect x="{LEFT}" y="{top - BAR + 4}" width="{length}" height="{BAR}" fill="{colour}"/>'
                f'<text x="{LEFT + length + 5}" y="{top}">{speed:,.0f}</text>'
            )
        top += 36
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 80}" height="{top}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>", ""])
