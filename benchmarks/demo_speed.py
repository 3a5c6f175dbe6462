"""How fast the demo data are made, against pandas writing the very same rows.

    PYTHONPATH=lib python benchmarks/demo_speed.py [MEGABYTES]

Prints one JSON line. `ratio` is the peer's time over ours (above 1: ours is faster), the median of
interleaved pairs; `low` and `high` are the extremes of the pairs. pandas only formats rows that are in
memory already, ours also draws them. Both must come to the same bytes. Time is processor time: both
use one core, and what else runs on the machine must not count.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time

import pandas as pd

from iomt_ids.demo import demo_files, rows_for_bytes

_PAIRS = 5
_SEED = 1
_MEGABYTE = 1_000_000


def _time_ours(rows: int) -> tuple[float, int]:
    start = time.process_time()
    written = sum(len(piece) for file in demo_files(rows, _SEED) if file.rows for piece in file.chunks())
    return time.process_time() - start, written


def _time_pandas(frames: list[pd.DataFrame]) -> tuple[float, int]:
    start = time.process_time()
    written = 0
    for frame in frames:
        text = io.StringIO()
        frame.to_csv(text, index=False)
        written += text.tell()
    return time.process_time() - start, written


def main(megabytes: int) -> int:
    """Run the pairs and print the JSON line; 1 if the two did not write the same bytes."""
    rows = rows_for_bytes(megabytes * _MEGABYTE)
    frames = [
        pd.read_csv(io.BytesIO(b"".join(file.chunks())), float_precision="round_trip")
        for file in demo_files(rows, _SEED) if file.rows
    ]
    ratios, speeds = [], []
    for _ in range(_PAIRS):
        ours, our_bytes = _time_ours(rows)
        theirs, their_bytes = _time_pandas(frames)
        if our_bytes != their_bytes or sum(map(len, frames)) != rows:
            sys.stderr.write(f"not the same rows: {our_bytes} bytes here, {their_bytes} from pandas\n")
            return 1
        ratios.append(theirs / ours)
        speeds.append(our_bytes / _MEGABYTE / ours)
    sys.stdout.write(json.dumps({
        "bench": "demo_speed", "peer": "pandas DataFrame.to_csv of the same rows", "rows": rows, "pairs": _PAIRS,
        "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "mb_per_s": round(statistics.median(speeds), 1),
    }) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
