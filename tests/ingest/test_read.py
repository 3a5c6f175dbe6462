import pytest
from pyspark.sql import functions as F

from iomt_ids.contract.tables import BRONZE, REJECTS
from iomt_ids.ingest.plan import cut_blocks, find_files
from iomt_ids.ingest.read import number_blocks, read_flows, read_rejects
from iomt_ids.ingest.sources import sources
from tests.builders import write_capture

TRAIN = "WiFI_and_MQTT/attacks/csv/train"


@pytest.fixture
def captures(tmp_path):
    write_capture(tmp_path, f"{TRAIN}/Benign_train.pcap.csv", 40)
    write_capture(tmp_path, f"{TRAIN}/TCP_IP-DDoS-UDP3_train.pcap.csv", 25)
    write_capture(tmp_path, "Bluetooth/profiling/csv/SleepU_Power.pcap.csv", 3)
    return tmp_path


def read(spark, folder, block_bytes=1000):
    blocks = number_blocks(spark, cut_blocks(find_files(folder, sources()["ciciomt2024"]), block_bytes), 2)
    return sum(b.lines for b in blocks), read_flows(spark, blocks, 2), read_rejects(spark, blocks, 2)


def test_every_line_is_a_row_that_knows_its_place_and_its_class(spark, captures):
    lines, flows, rejects = read(spark, captures)
    assert (lines, flows.count(), rejects.count()) == (68, 68, 0)
    assert flows.schema == BRONZE
    assert rejects.schema == REJECTS
    places = {(r.source_file, r.source_line) for r in flows.collect()}
    assert len(places) == 68
    assert {line for file, line in places if "UDP3" in file} == set(range(2, 27))
    kinds = {(r.attack, r.category, r.split, r.protocol, r.device) for r in flows.collect()}
    assert kinds == {
        ("Benign", "Benign", "train", "wifi_mqtt", None), ("DDoS-UDP", "DDoS", "train", "wifi_mqtt", None),
        ("Bluetooth-Benign", "Benign", "profile", "bluetooth", "SleepU"),
    }


def test_bad_lines_are_rejected_with_their_place_and_the_rest_is_read(spark, captures):
    path = captures / TRAIN / "Benign_train.pcap.csv"
    lines = path.read_text().splitlines()
    lines[4], lines[10], lines[20] = "1,2,3", lines[10].replace("1.5", "", 1), lines[20].replace("1.5", "fast", 1)
    path.write_text("\n".join(lines) + "\n")
    total, flows, rejects = read(spark, captures)
    assert total == flows.count() + rejects.count() == 68
    assert [(r.source_line, r.source_column, r.reason) for r in rejects.orderBy("source_line").collect()] == [
        (5, None, "3 fields, wanted 45"), (11, "Header_Length", "missing value: ''"), (21, "Header_Length", "not a number: 'fast'"),
    ]
    assert rejects.filter(F.col("source_line") == 5).first().raw == "1,2,3"


def test_columns_that_a_release_lacks_are_null_and_not_zero(spark, tmp_path):
    write_capture(tmp_path, f"{TRAIN}/Benign_train.pcap.csv", 2, release="v2", value="0.0")
    _, flows, _ = read(spark, tmp_path)
    row = flows.first()
    assert (row.iat_epoch_s, row.weight, row.iat_s, row.window_packets) == (None, None, 0.0, 0.0)


def test_the_size_of_a_block_changes_nothing(spark, captures):
    small, large = (sorted(map(str, read(spark, captures, block_bytes)[1].collect())) for block_bytes in (300, 10_000_000))
    assert small == large


def test_a_file_with_nothing_but_a_header_gives_no_rows(spark, tmp_path):
    write_capture(tmp_path, f"{TRAIN}/Benign_train.pcap.csv", 0)
    total, flows, rejects = read(spark, tmp_path)
    assert (total, flows.count(), rejects.count()) == (0, 0, 0)
