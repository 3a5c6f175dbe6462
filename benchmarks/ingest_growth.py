"""How time and memory of an ingest grow with the data, under a limit on the memory of everything it starts.

    PYTHONPATH=lib:. python benchmarks/ingest_growth.py [GIGABYTES ...]

Each size (0.5, 1, 2, 4 and 8 GB by default) is made of the same mix of classes, ingested once as users type it, in a process
of its own under a control group that holds it and all its children to 4 GiB, and removed. Prints one JSON line a size and one
for all: `exponent` is the slope of log seconds over log bytes (1: twice the data take twice the time), `exponent_warm` the
same after the seconds that an ingest of 10,000 rows takes have been subtracted, which start and stop Spark; `memory_growth`
is the peak at the largest size over that at the smallest. `peak_mb` is of anonymous and mapped pages, shared ones counted
once. `limit` is null where this user may not make control groups. Rows are synthetic demo data.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ingest import write_demo

from iomt_ids.demo import rows_for_bytes

_ROOT = Path(__file__).resolve().parents[1]
_GROUPS = Path("/sys/fs/cgroup/memory")
_LIMIT, _HEAP, _FEW = 4 << 30, "1g", 10_000
_SIZES = (0.5, 1.0, 2.0, 4.0, 8.0)


def limited() -> Path | None:
    """A control group of 4 GiB, or None where there is none to be had."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").is_file()
    group = (_GROUPS.parent if unified else _GROUPS) / f"iomt-ids-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(_LIMIT))
    except OSError:
        return None
    return group


def ingest(raw: Path, out: Path, group: Path | None) -> dict[str, float]:
    """One ingest as users type it; what its last line tells."""
    command = [
        sys.executable, "-m", "iomt_ids.cli", "submit", "ingest_flows", "--profile", "local",
        "--spark-conf", f"spark.driver.memory={_HEAP}", "--spark-conf", "spark.master=local[2]",
        "--set", f"data.raw={raw}", "--set", f"output.folder={out}",
    ]
    done = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=False,
        preexec_fn=(lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None) if group else None,
    )
    if done.returncode:
        raise SystemExit(f"{raw.name}: status {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def slope(sizes: list[float], seconds: list[float]) -> float:
    """Of log seconds over log size."""
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def main(sizes: list[float]) -> int:
    """Ingest each size once; 1 if a row is missing."""
    group, found, whole = limited(), [], True
    try:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as held:
            place = Path(held)
            for gigabytes in (None, *sizes):
                rows = _FEW if gigabytes is None else rows_for_bytes(int(gigabytes * 1e9))
                size = write_demo(place / "raw", rows)
                told = ingest(place / "raw", place / "out", group)
                whole &= told["rows"]["in"] == told["rows"]["out"] + told["rows"]["rejected"]  # type: ignore[index]
                found.append((size, told["seconds"], told["peak_memory_bytes"] / 1e6))
                shutil.rmtree(place / "raw")
                shutil.rmtree(place / "out")
                _say(mb=round(size / 1e6), rows=told["rows"]["in"], seconds=told["seconds"], peak_mb=round(found[-1][2]))  # type: ignore[index]
    finally:
        if group:
            group.rmdir()
    (_, start, _), *measured = found
    bytes_of, seconds, peaks = (list(column) for column in zip(*measured, strict=True))
    _say(
        exponent=slope(bytes_of, seconds), exponent_warm=slope(bytes_of, [max(s - start, 1e-3) for s in seconds]),
        memory_growth=round(peaks[-1] / peaks[0], 3), limit=_LIMIT if group else None, heap=_HEAP,
    )
    return 0 if whole else 1


def _say(**line: object) -> None:
    sys.stdout.write(json.dumps({"bench": "ingest_growth", **line, "data": "synthetic demo"}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main([float(size) for size in sys.argv[1:]] or list(_SIZES)))
