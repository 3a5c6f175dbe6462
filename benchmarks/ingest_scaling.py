"""What ingest costs from half a gigabyte to eight: does time grow faster than the data, does memory grow at all?

    PYTHONPATH=lib:. python benchmarks/ingest_scaling.py [MEGABYTES ...]

Prints one JSON line. Each size is ingested three times by a process of its own that has read a small folder before.
`exponent` is the slope of log seconds over log bytes (1: twice the data, twice the time), of the medians; `ratio` compares
peak memory (proportional set size of the whole process tree, Java's heap limited to 1 GB) of the largest with the smallest.
The peer is ours at the smallest size: the ratio is its memory over that at the largest, so that 0.95 means 5 % more. Rows are
synthetic demo data.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from ingest import Side, write_demo

from iomt_ids.demo import rows_for_bytes

_TIMES, _SMALL_ROWS = 3, 20_000


def measure(place: Path, megabytes: int) -> tuple[int, float, float]:
    """Bytes, median seconds, peak megabytes."""
    write_demo(place / "small", _SMALL_ROWS)
    size = write_demo(place / "large", rows_for_bytes(megabytes * 1_000_000))
    side = Side("ours", place / "log")
    side.run(place / "small", place / "out")
    runs = [side.run(place / "large", place / "out") for _ in range(_TIMES)]
    side.stop()
    return size, statistics.median(r["seconds"] for r in runs), max(r["peak_bytes"] for r in runs) / 1e6


def main(sizes: list[int]) -> int:
    """Measure every size and print the line."""
    os.environ["IOMT_BENCH_DRIVER_MEMORY"] = "1g"
    found = []
    for megabytes in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-scaling-") as held:
            found.append(measure(Path(held), megabytes))
            shutil.rmtree(Path(held) / "large", ignore_errors=True)
        sys.stderr.write(f"{found[-1]}\n")
    bytes_, seconds, memory = zip(*found, strict=True)
    exponent = np.polyfit(np.log(bytes_), np.log(seconds), 1)[0]
    ratio = memory[0] / memory[-1]
    sys.stdout.write(json.dumps({
        "bench": "ingest_scaling", "peer": f"ours at {sizes[0]} MB, peak memory", "ratio": round(ratio, 3), "low": round(ratio, 3),
        "high": round(ratio, 3), "exponent": round(float(exponent), 3), "mb": [round(b / 1e6) for b in bytes_],
        "s": [round(s, 1) for s in seconds], "peak_mb": [round(m) for m in memory], "data": "synthetic demo",
    }) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main([int(given) for given in sys.argv[1:]] or [500, 1000, 2000, 4000, 8000]))
