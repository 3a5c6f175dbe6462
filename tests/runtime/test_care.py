"""Tables stay small, and what a run's scores name stays readable."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from pyspark.sql import SparkSession

from iomt_ids.contract.tables import BRONZE_FLOWS
from iomt_ids.ingest.ledger import Ledger
from iomt_ids.runtime.care import LEAST_HOURS, hours_to_keep, named_versions, tend_tables
from tests.builders import ingested, write_capture

TRAIN = "WiFI_and_MQTT/attacks/csv/train"


def a_run(home: Path, name: str, version: int, *, finished: bool = True) -> None:
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps({"data": {"tables": {"bronze.flows": version, "gold.features": None}}}))
    if finished:
        (folder / "run.json").write_text("{}")


def test_the_oldest_version_of_a_finished_run_counts(tmp_path: Path) -> None:
    a_run(tmp_path, "a", 4)
    a_run(tmp_path, "b", 2)
    a_run(tmp_path, "c", 0, finished=False)
    assert named_versions(tmp_path) == {"bronze.flows": 2}
    assert named_versions(tmp_path / "nothing") == {}


def test_files_are_kept_since_the_named_version_and_a_week_at_least(tmp_path: Path) -> None:
    (tmp_path / f"{3:020d}.json").write_text(json.dumps({"commitInfo": {"timestamp": 0}}) + "\n")
    assert hours_to_keep(tmp_path, 3, 1000 * 3_600_000) == 1001
    assert hours_to_keep(tmp_path, 3, 3_600_000) == LEAST_HOURS
    assert hours_to_keep(tmp_path, 2, 1000 * 3_600_000) == LEAST_HOURS
    assert hours_to_keep(tmp_path, None, 1000 * 3_600_000) == LEAST_HOURS


def test_tending_compacts_deletes_the_dead_and_keeps_what_is_named(spark: SparkSession, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for part in range(1, 5):
        write_capture(raw, f"{TRAIN}/TCP_IP-DDoS-UDP{part}_train.pcap.csv", 10)
        warehouse = ingested(spark, raw, tmp_path / "out")
    home, folder = warehouse.root.parent, warehouse.path(BRONZE_FLOWS)
    dead = folder / "split=train" / "category=DDoS" / "part-killed.c000.snappy.parquet"
    dead.write_bytes(b"left by a killed task")
    long_ago = time.time() - 3600 * 10_000
    os.utime(dead, (long_ago, long_ago))
    a_run(home, "a", 1)
    told = tend_tables(spark, warehouse, home, int(time.time() * 1000))["bronze.flows"]
    assert told == {"files_before": 4, "files_after": 1, "deleted": 1, "kept_hours": LEAST_HOURS}
    assert not dead.exists()
    assert warehouse.read(spark, BRONZE_FLOWS).count() == 40
    assert warehouse.read(spark, BRONZE_FLOWS, version=1).count() == 20
    assert Ledger.of(warehouse.state(BRONZE_FLOWS)).lines == 40
    before = warehouse.versions()
    ingested(spark, raw, tmp_path / "out")
    assert warehouse.versions() == before, "a compacted table is read again from its files"
