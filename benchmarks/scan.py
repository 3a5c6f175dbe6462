"""How fast lines become doubles, against Arrow's CSV reader on the very same bytes, and what writing them as Parquet adds.

    PYTHONPATH=lib python benchmarks/scan.py [MEGABYTES] [PAIRS]

Prints one JSON line. `ratio` is the peer's processor time over ours (above 1: ours is faster), the median of interleaved pairs
after a warm-up; `low` and `high` are the extremes of the pairs. Both use one thread; the text is one block of
`ingest.block_bytes`. Ours also checks what every column may hold. The doubles of both must have the same bits.
`parquet_mb_per_s` is CSV bytes over the processor time that Arrow takes to write the rows, snappy. Rows are synthetic demo data.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet as pq

from iomt_ids.contract.flows import source_header
from iomt_ids.demo import demo_files, rows_for_bytes
from iomt_ids.ingest.parse import Parsed, parse_block

_SEED, _RELEASE = 1, "v1"
# The size of block with which Arrow is fastest on these files.
_ARROW_BLOCK = 256 << 10


def _arrow(data: bytes) -> pa.Table:
    header = list(source_header(_RELEASE))
    return arrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=arrow_csv.ReadOptions(column_names=header, use_threads=False, block_size=_ARROW_BLOCK),
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.float64())),
    )


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def _same(parsed: Parsed, table: pa.Table) -> bool:
    return not parsed.rejects and all(
        (ours.view("i8") == theirs.to_numpy().view("i8")).all() for ours, theirs in zip(parsed.values, table.columns, strict=True)
    )


def main(megabytes: int, pairs: int) -> int:
    """Run the pairs and print the JSON line; 1 if the two did not read the same doubles."""
    files = [b"".join(file.chunks()) for file in demo_files(rows_for_bytes(megabytes * 1_000_000), _SEED) if file.rows]
    data = b"".join(content.partition(b"\n")[2] for content in files)
    parse_block(data[: data.index(b"\n") + 1], 2, _RELEASE)
    _arrow(data)
    ratios, speeds, peer_speeds, parquet = [], [], [], []
    for _ in range(pairs):
        ours, parsed = _timed(lambda: parse_block(data, 2, _RELEASE))
        theirs, table = _timed(lambda: _arrow(data))
        if not _same(parsed, table):
            sys.stderr.write("not the same doubles\n")
            return 1
        sink = pa.BufferOutputStream()
        written, _ = _timed(lambda table=table, sink=sink: pq.write_table(table, sink, compression="snappy"))
        ratios.append(theirs / ours)
        for speed, seconds in ((speeds, ours), (peer_speeds, theirs), (parquet, written)):
            speed.append(len(data) / 1e6 / seconds)
    sys.stdout.write(json.dumps({
        "bench": "scan", "peer": "pyarrow.csv", "mb": round(len(data) / 1e6), "pairs": pairs,
        "ratio": round(statistics.median(ratios), 2), "low": round(min(ratios), 2), "high": round(max(ratios), 2),
        "mb_per_s": round(statistics.median(speeds)), "peer_mb_per_s": round(statistics.median(peer_speeds)),
        "parquet_mb_per_s": round(statistics.median(parquet)), "data": "synthetic demo",
    }) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 32, int(sys.argv[2]) if len(sys.argv) > 2 else 9))
