"""From a folder to tables: every line once, whatever happened before."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from py4j.protocol import Py4JJavaError
from pyarrow import parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import BusyError, IomtIdsError, SourceError
from iomt_ids.contract.tables import BRONZE, BRONZE_FLOWS, BRONZE_REJECTS, REJECTS, Table, spark_path
from iomt_ids.ingest import batch, write
from iomt_ids.ingest.ledger import Ledger
from iomt_ids.runtime import tables
from iomt_ids.runtime.log import log
from iomt_ids.runtime.tables import Warehouse
from tests.builders import ingested, write_capture

TRAIN = "WiFI_and_MQTT/attacks/csv/train"
BENIGN, FLOOD = f"{TRAIN}/Benign_train.pcap.csv", f"{TRAIN}/TCP_IP-DDoS-UDP3_train.pcap.csv"
PROFILE = "Bluetooth/profiling/csv/SleepU_Power.pcap.csv"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "ward 7, 50%20 full"
    write_capture(folder, BENIGN, 40)
    write_capture(folder, FLOOD, 25)
    write_capture(folder, PROFILE, 3)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def spoil(path: Path, *lines: tuple[int, str]) -> None:
    """Put other text at some lines, counted from 1."""
    text = path.read_text().splitlines()
    for number, instead in lines:
        text[number - 1] = instead
    path.write_text("\n".join(text) + "\n")


def rows(warehouse: Warehouse, table: Table) -> list[dict]:
    """The rows of a table's newest version, by its log and its files alone; Spark's own reading has tests of its own."""
    files = [warehouse.path(table) / path for path in warehouse.state(table).files]
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def places(warehouse: Warehouse) -> list[tuple[str, int]]:
    return sorted((r["source_file"], r["source_line"]) for r in rows(warehouse, BRONZE_FLOWS))


def everything(*captures: tuple[str, int]) -> list[tuple[str, int]]:
    return sorted((path, line) for path, rows in captures for line in range(2, rows + 2))


def counts(warehouse: Warehouse) -> tuple[int, int]:
    return len(rows(warehouse, BRONZE_FLOWS)), len(rows(warehouse, BRONZE_REJECTS))


@pytest.mark.parametrize("form", ["delta", "parquet"])
def test_every_line_is_a_row_that_knows_its_place_and_its_class(spark: SparkSession, raw: Path, out: Path, form: str) -> None:
    warehouse = ingested(spark, raw, out, f"output.format={form}")
    flows, rejects = (warehouse.read(spark, table) for table in (BRONZE_FLOWS, BRONZE_REJECTS))
    assert [(f.name, f.dataType) for f in flows.schema] == [(f.name, f.dataType) for f in BRONZE]
    assert [(f.name, f.dataType) for f in rejects.schema] == [(f.name, f.dataType) for f in REJECTS]
    found = flows.collect()
    assert sorted((r.source_file, r.source_line) for r in found) == everything((BENIGN, 40), (FLOOD, 25), (PROFILE, 3))
    assert rejects.count() == 0
    assert {(r.attack, r.category, r.split, r.protocol, r.device) for r in found} == {
        ("Benign", "Benign", "train", "wifi_mqtt", None), ("DDoS-UDP", "DDoS", "train", "wifi_mqtt", None),
        ("Bluetooth-Benign", "Benign", "profile", "bluetooth", "SleepU"),
    }
    if form == "parquet":
        assert ingested(spark, raw, out, f"output.format={form}").read(spark, BRONZE_FLOWS).count() == 68


def test_other_readers_of_delta_read_the_same_rows(spark: SparkSession, raw: Path, tmp_path: Path) -> None:
    # delta-rs does not open a folder with an escaped blank in its name.
    warehouse = ingested(spark, raw.rename(tmp_path / "ward"), tmp_path / "out")
    path = str(warehouse.path(BRONZE_FLOWS))
    ours = warehouse.read(spark, BRONZE_FLOWS).orderBy("source_file", "source_line").toPandas()
    table = DeltaTable(path)
    theirs = table.to_pandas().sort_values(["source_file", "source_line"], ignore_index=True)[list(ours.columns)]
    assert ours.equals(theirs)
    files = [f"{path}/{file}" for file in warehouse.state(BRONZE_FLOWS).files]
    seen = duckdb.sql(f"SELECT count(*), sum(source_line) FROM read_parquet({files})").fetchall()
    assert seen == [(68, int(ours.source_line.sum()))]
    assert table.metadata().partition_columns == ["split", "category"]


def test_statistics_are_those_of_the_rows(spark: SparkSession, raw: Path, out: Path) -> None:
    spoil(raw / BENIGN, (5, ",".join(["0.75"] * 45)))
    state = ingested(spark, raw, out).state(BRONZE_FLOWS)
    by_rows = {f.rows: f.stats for f in state.files.values()}
    assert set(by_rows) == {40, 25, 3}
    assert (by_rows[40]["minValues"]["ttl_mean"], by_rows[40]["maxValues"]["ttl_mean"]) == (0.5, 0.75)
    assert by_rows[40]["maxValues"]["source_line"] == 41
    assert by_rows[25]["nullCount"]["transport_header_bytes"] == 25


def test_a_second_run_reads_nothing_and_makes_no_version(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in raw.rglob("*.csv"):
        os.utime(path, (0, 0))  # what was written a moment ago is compared by content, and so is read
    before = ingested(spark, raw, out).versions()
    monkeypatch.setattr(batch, "write_blocks", lambda *_, **__: pytest.fail("known rows were read"))
    real = batch.survey_files

    def nothing_to_survey(spark, files, *args, **kwargs):
        assert files == []
        return real(spark, files, *args, **kwargs)

    monkeypatch.setattr(batch, "survey_files", nothing_to_survey)
    assert ingested(spark, raw, out).versions() == before == {"bronze.flows": 0, "bronze.rejects": 0}


def test_a_run_with_one_new_file_reads_one_file(spark: SparkSession, raw: Path, out: Path) -> None:
    ingested(spark, raw, out)
    write_capture(raw, f"{TRAIN}/Recon-VulScan_train.pcap.csv", 7)
    os.utime(raw / BENIGN)  # a new date is not a new content
    warehouse = ingested(spark, raw, out)
    newest = spark.sql(f"DESCRIBE HISTORY delta.`{spark_path(warehouse.path(BRONZE_FLOWS))}`").first()
    assert (newest.version, newest.operationMetrics["numOutputRows"]) == (1, "7")
    assert counts(warehouse) == (75, 0)


def test_a_changed_file_under_an_old_name_is_refused_by_name_unless_told_to_replace(
    spark: SparkSession, raw: Path, out: Path
) -> None:
    spoil(raw / BENIGN, (3, "bad"))
    warehouse = ingested(spark, raw, out)
    before = warehouse.versions()
    spoil(raw / BENIGN, (3, ",".join(["0.25"] * 45)), (6, "worse"))
    (raw / FLOOD).unlink()
    with pytest.raises(SourceError, match=f"{BENIGN}: its content changed since it was taken in"):
        ingested(spark, raw, out)
    assert warehouse.versions() == before
    ingested(spark, raw, out, "ingest.replace=true")
    assert places(warehouse) == sorted(set(everything((BENIGN, 40), (PROFILE, 3))) - {(BENIGN, 6)})
    assert [r["raw"] for r in rows(warehouse, BRONZE_REJECTS)] == ["worse"]
    assert [r["source_line"] for r in rows(warehouse, BRONZE_FLOWS) if r["ttl_mean"] == 0.25] == [3]


def test_rows_of_a_file_that_is_gone_stay(spark: SparkSession, raw: Path, out: Path) -> None:
    ingested(spark, raw, out)
    (raw / FLOOD).unlink()
    assert counts(ingested(spark, raw, out)) == (68, 0)


def test_bad_lines_are_rejected_with_their_place_and_the_rest_is_read(spark: SparkSession, raw: Path, out: Path) -> None:
    good = (raw / BENIGN).read_text().splitlines()[1]
    spoil(raw / BENIGN, (5, "1,2,3"), (11, good.replace("0.5", "", 1)), (21, good.replace("0.5", "fast", 1)))
    warehouse = ingested(spark, raw, out)
    assert counts(warehouse) == (65, 3)
    rejects = sorted(rows(warehouse, BRONZE_REJECTS), key=lambda r: r["source_line"])
    assert [(r["source_line"], r["source_column"], r["reason"], r["raw"][:5]) for r in rejects] == [
        (5, None, "3 fields, wanted 45", "1,2,3"), (11, "Header_Length", "missing value: ''", ",0.5,"),
        (21, "Header_Length", "not a number: 'fast'", "fast,"),
    ]


def test_too_many_bad_lines_keep_nothing(spark: SparkSession, raw: Path, out: Path) -> None:
    spoil(raw / FLOOD, *((line, "x") for line in range(2, 9)))
    said = r"7 of 68 rows cannot be read, more than .*\(0.1\) allows; most of them in .*UDP3.*\(7\)"
    with pytest.raises(SourceError, match=said):
        ingested(spark, raw, out, "ingest.max_rejected_fraction=0.1")
    assert [p for p in out.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_packed_files_are_the_same_captures(spark: SparkSession, raw: Path, out: Path, packing: str) -> None:
    ingested(spark, raw, out)
    plain = (raw / BENIGN).read_bytes()
    packed = gzip.compress(plain) if packing == "gz" else pa.Codec("zstd").compress(plain, asbytes=True)
    (raw / f"{BENIGN}.{packing}").write_bytes(packed)
    (raw / BENIGN).unlink()
    with pytest.raises(SourceError, match=f"{BENIGN}.{packing}: its content changed"):
        ingested(spark, raw, out)
    assert places(ingested(spark, raw, out, "ingest.replace=true")) == everything((BENIGN, 40), (FLOOD, 25), (PROFILE, 3))


def test_a_bomb_is_refused_with_its_name(spark: SparkSession, raw: Path, out: Path) -> None:
    header = (raw / BENIGN).read_bytes().split(b"\n")[0] + b"\n"
    (raw / f"{TRAIN}/ARP_Spoofing_train.pcap.csv.gz").write_bytes(gzip.compress(header + b"0\n" * 3_000_000))
    with pytest.raises(SourceError, match=r"ARP_Spoofing_train.pcap.csv.gz: unpacks to more than ingest.unpacked_bytes allows"):
        ingested(spark, raw, out, "ingest.unpacked_bytes=1000000")


def test_columns_that_a_release_lacks_are_null_and_not_zero(spark: SparkSession, raw: Path, out: Path) -> None:
    write_capture(raw, f"{TRAIN}/ARP_Spoofing_train.pcap.csv", 2, release="v2", value="0.0")
    row = next(r for r in rows(ingested(spark, raw, out), BRONZE_FLOWS) if r["attack"] == "ARP_Spoofing")
    assert [row[n] for n in ("release", "iat_epoch_s", "weight", "iat_s", "window_packets")] == ["v2", None, None, 0.0, 0.0]


def test_a_last_line_that_does_not_end_is_read_and_its_file_is_named(
    spark: SparkSession, raw: Path, out: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (raw / BENIGN).write_bytes((raw / BENIGN).read_bytes().removesuffix(b"\n"))
    monkeypatch.setattr(log(), "propagate", True)
    assert counts(ingested(spark, raw, out)) == (68, 0)
    assert [r.getMessage().split(":")[0] for r in caplog.records if r.levelname == "WARNING"] == [BENIGN]


def test_the_size_of_a_block_changes_nothing(
    spark: SparkSession, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(raw / BENIGN, (7, "bad"))
    whole = ingested(spark, raw, tmp_path / "whole")
    real = batch.survey_files
    monkeypatch.setattr(batch, "survey_files", lambda *a, **k: real(*a, **{**k, "piece_bytes": 300, "block_bytes": 300}))
    monkeypatch.setattr(batch, "_TASK_BYTES", 1000)
    cut = ingested(spark, raw, tmp_path / "cut")
    assert len(cut.state(BRONZE_FLOWS).files) > 5 > len(whole.state(BRONZE_FLOWS).files)
    for table in (BRONZE_FLOWS, BRONZE_REJECTS):
        assert sorted(map(str, rows(cut, table))) == sorted(map(str, rows(whole, table)))


def test_a_file_with_nothing_but_a_header_gives_no_rows(spark: SparkSession, tmp_path: Path) -> None:
    write_capture(tmp_path / "raw", BENIGN, 0)
    warehouse = ingested(spark, tmp_path / "raw", tmp_path / "out")
    assert counts(warehouse) == (0, 0)
    assert Ledger.of(warehouse.state(BRONZE_FLOWS)).lines == 0


def test_a_run_that_dies_between_its_commits_doubles_nothing(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(raw / BENIGN, (3, "bad"))
    real = Warehouse.commit

    def dies(self, table, planner):
        if table is BRONZE_FLOWS:
            raise KeyboardInterrupt
        return real(self, table, planner)

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            ingested(spark, raw, out)
    spoil(raw / BENIGN, (4, "bad, too"))
    assert counts(ingested(spark, raw, out)) == (66, 2)


def test_what_fails_after_the_commit_takes_no_rows_away(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Warehouse.commit

    def dies(self, table, planner):
        state = real(self, table, planner)
        if table is BRONZE_FLOWS:
            raise KeyboardInterrupt
        return state

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            ingested(spark, raw, out)
    whole = everything((BENIGN, 40), (FLOOD, 25), (PROFILE, 3))
    warehouse = ingested(spark, raw, out)
    assert places(warehouse) == whole and warehouse.state(BRONZE_FLOWS).version == 0


def test_a_checkpoint_that_cannot_be_written_is_a_warning(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ingested(spark, raw, out)
    write_capture(raw, f"{TRAIN}/TCP_IP-DDoS-TCP1_train.pcap.csv", 2)

    class Killed:
        @staticmethod
        def active() -> None:
            raise ConnectionRefusedError("Java has gone")

    monkeypatch.setattr(tables, "_CHECKPOINT_VERSIONS", 1)
    monkeypatch.setattr(tables, "SparkSession", Killed)
    monkeypatch.setattr(log(), "propagate", True)
    assert counts(ingested(spark, raw, out)) == (70, 0)
    assert "bronze.flows: no checkpoint was written: Java has gone" in caplog.messages


def test_tables_that_do_not_account_for_their_rows_are_read_again(spark: SparkSession, raw: Path, out: Path) -> None:
    warehouse = ingested(spark, raw, out)
    spark.sql(f"DELETE FROM delta.`{spark_path(warehouse.path(BRONZE_FLOWS))}` WHERE source_line = 3")
    assert counts(ingested(spark, raw, out)) == (68, 0)
    assert places(warehouse) == everything((BENIGN, 40), (FLOOD, 25), (PROFILE, 3))


def test_an_older_version_is_there_and_a_restored_one_is_continued(spark: SparkSession, raw: Path, out: Path) -> None:
    warehouse = ingested(spark, raw, out)
    write_capture(raw, f"{TRAIN}/Recon-VulScan_train.pcap.csv", 7)
    ingested(spark, raw, out)
    assert warehouse.read(spark, BRONZE_FLOWS, version=0).count() == 68
    for table in (BRONZE_FLOWS, BRONZE_REJECTS):
        warehouse.restore(spark, table, 0)
    assert counts(warehouse) == (68, 0)
    assert counts(ingested(spark, raw, out)) == (75, 0)


def test_a_file_that_changes_while_it_is_read_is_refused(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = batch.write_blocks

    def changes(*args, **kwargs):
        done = real(*args, **kwargs)
        spoil(raw / FLOOD, (2, ",".join(["0.75"] * 45)))
        return done

    monkeypatch.setattr(batch, "write_blocks", changes)
    with pytest.raises(SourceError, match=r"UDP3_train\.pcap\.csv: the file changed while it was read"):
        ingested(spark, raw, out)
    assert [p for p in out.rglob("*") if p.is_file()] == []


def test_rows_that_do_not_add_up_are_not_kept(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write.pack_blocks
    monkeypatch.setattr(write, "pack_blocks", lambda blocks, tasks: real(blocks, tasks)[:-1] or [[]])
    with pytest.raises(IomtIdsError, match=r"68 rows in, .* they do not add up; nothing was kept"):
        ingested(spark, raw, out)
    assert [p for p in out.rglob("*") if p.is_file()] == []


def test_a_capture_that_another_process_took_in_meanwhile_is_not_doubled(
    spark: SparkSession, raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, raced = batch.read_batch, []

    def race(*args, **kwargs):
        if not raced:
            raced.append(True)
            ingested(spark, raw, out)
        return real(*args, **kwargs)

    monkeypatch.setattr(batch, "read_batch", race)
    with pytest.raises(BusyError, match="another process has taken in"):
        ingested(spark, raw, out)
    assert counts(ingested(spark, raw, out)) == (68, 0)


def test_a_row_that_breaks_a_constraint_cannot_be_written_by_spark(spark: SparkSession, raw: Path, out: Path) -> None:
    warehouse = ingested(spark, raw, out)
    impossible = warehouse.read(spark, BRONZE_FLOWS).limit(1).withColumn("syn_fraction", F.lit(1.5))
    with pytest.raises(Py4JJavaError, match="syn_fraction_is_possible"):
        impossible.write.format("delta").mode("append").save(spark_path(warehouse.path(BRONZE_FLOWS)))


def test_after_ten_commits_delta_has_a_checkpoint_and_goes_on(spark: SparkSession, raw: Path, out: Path) -> None:
    write_capture(raw, f"{TRAIN}/TCP_IP-DDoS-TCP1_train.pcap.csv", 1)
    warehouse = ingested(spark, raw, out)
    for part in range(2, 9):
        write_capture(raw, f"{TRAIN}/TCP_IP-DDoS-TCP{part}_train.pcap.csv", part)
        warehouse = ingested(spark, raw, out)
    for part in range(1, 5):
        write_capture(raw, f"{TRAIN}/TCP_IP-DoS-UDP{part}_train.pcap.csv", part)
        warehouse = ingested(spark, raw, out)
    log = warehouse.path(BRONZE_FLOWS) / "_delta_log"
    assert (log / f"{10:020d}.checkpoint.parquet").is_file()
    for version in range(10):
        (log / f"{version:020d}.json").unlink()
    assert warehouse.state(BRONZE_FLOWS).rows == 68 + 36 + 10
    assert Ledger.of(warehouse.state(BRONZE_FLOWS)).lines == 68 + 36 + 10
    assert counts(ingested(spark, raw, out)) == (68 + 36 + 10, 0)
