"""What a task in Python costs beside its work, against Spark's own daemon and its sockets of TCP.

    PYTHONPATH=lib:. python benchmarks/tasks.py [TASKS] [PAIRS]

Prints one JSON line. Both sides are sessions with the settings of conf/spark/local.conf on two threads, the peer's with Spark's
own values of `spark.python.daemon.module` and `spark.python.unix.domain.socket.enabled`. Their workers have imported pandas,
pyarrow and numba; then each side runs a job of so many tasks that do nothing. `ratio` is the median of interleaved pairs,
`our_ms` and `peer_ms` are milliseconds a task and core.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ingest import started_session

_ROOT = Path(__file__).resolve().parents[1]
_THREADS = 2
_SETTINGS = f"--properties-file {_ROOT / 'conf/spark/local.conf'} --master local[{_THREADS}]"
_STOCK = "--conf spark.python.daemon.module=pyspark.daemon --conf spark.python.unix.domain.socket.enabled=false"
_SIDES = {"ours": _SETTINGS, "stock": f"{_SETTINGS} {_STOCK}"}


def serve(side: str) -> None:
    """A side's process: a job for each number of tasks that it is told, its seconds and its sum."""
    context = started_session(side, _SIDES[side]).sparkContext

    def load(_: int) -> int:
        import numba
        import pandas as pd
        import pyarrow as pa

        # As long as it takes for every core to have a worker.
        time.sleep(0.5)
        return len({numba, pd, pa})

    context.parallelize(range(_THREADS), _THREADS).map(load).collect()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        start = time.monotonic()
        total = context.parallelize(range(int(line)), int(line)).map(abs).sum()
        sys.stdout.write(json.dumps([time.monotonic() - start, total]) + "\n")
        sys.stdout.flush()


def _started(side: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, cwd=_ROOT, env={**os.environ, "PYTHONPATH": f"{_ROOT / 'lib'}:{_ROOT}"},
    )
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"{side} ended, status {process.wait()}")
    return process


def _run(process: subprocess.Popen[str], tasks: int) -> float:
    assert process.stdin and process.stdout
    process.stdin.write(f"{tasks}\n")
    process.stdin.flush()
    seconds, total = json.loads(process.stdout.readline())
    if total != tasks * (tasks - 1) // 2:
        raise SystemExit(f"the sum of {tasks} numbers is not {total}")
    return float(seconds)


def main(tasks: int, pairs: int) -> int:
    """Run the pairs and print the line."""
    sides = {name: _started(name) for name in _SIDES}
    found: dict[str, list[float]] = {name: [] for name in sides}
    # The first round of each side is for Java's compiler.
    for round_ in range(pairs + 1):
        for name, process in sides.items():
            seconds = _run(process, tasks)
            found[name] += [seconds] if round_ else []
    for process in sides.values():
        process.communicate()
    ratios = [theirs / ours for ours, theirs in zip(found["ours"], found["stock"], strict=True)]
    each = {name: round(1000 * _THREADS * statistics.median(seconds) / tasks, 1) for name, seconds in found.items()}
    sys.stdout.write(json.dumps({
        "bench": "tasks", "peer": "Spark's own daemon, TCP", "tasks": tasks, "pairs": pairs,
        "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "our_ms": each["ours"], "peer_ms": each["stock"],
    }) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, int(sys.argv[2]) if len(sys.argv) > 2 else 5))
