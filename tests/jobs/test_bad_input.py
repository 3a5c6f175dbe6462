"""What is wrong with the input is said in one message, with status 2, and the tables stay as they were."""

import shutil

import pytest

from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS
from iomt_ids.runtime.config import DataConfig
from iomt_ids.runtime.tables import Warehouse
from tests.builders import write_capture

TRAIN = "WiFI_and_MQTT/attacks/csv/train"


@pytest.fixture(scope="module")
def ward(submit, tmp_path_factory):
    """A folder of good captures that has been ingested once."""
    place = tmp_path_factory.mktemp("ward")
    raw = place / "raw"
    write_capture(raw, f"{TRAIN}/Benign_train.pcap.csv", 50)
    write_capture(raw, f"{TRAIN}/TCP_IP-DoS-TCP1_train.pcap.csv", 50)
    assert submit("ingest_flows", f"data.raw={raw}", f"output.folder={place / 'out'}").status == 0
    return place


@pytest.fixture
def refuses(ward, submit, spark, request):
    """Ingest a damaged copy and see it refused, whole, with the tables untouched."""
    raw, aside = ward / "raw", ward / "aside"
    warehouse = Warehouse(ward / "out" / DataConfig(str(raw), "", 0).name / "warehouse", "delta")

    def refused(damage, *settings):
        before = warehouse.versions(), warehouse.read(spark, BRONZE_FLOWS).count()
        shutil.copytree(raw, aside)
        try:
            damage(raw)
            done = submit("ingest_flows", f"data.raw={raw}", f"output.folder={ward / 'out'}", *settings)
        finally:
            shutil.rmtree(raw, ignore_errors=True)
            aside.rename(raw)
        assert done.status == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert [line for line in done.stdout.splitlines() if line.startswith("{")] == []
        assert (warehouse.versions(), warehouse.read(spark, BRONZE_FLOWS).count()) == before
        return done.stderr

    return refused


def edit(path, change):
    path.write_text(change(path.read_text()))


def test_everything_wrong_with_the_files_is_said_at_once(refuses):
    def damage(raw):
        edit(raw / TRAIN / "Benign_train.pcap.csv", lambda text: text.replace("Rate,Srate,", "Speed,", 1))
        (raw / TRAIN / "TCP_IP-DoS-TCP1_train.pcap.csv").write_text("")
        write_capture(raw, f"{TRAIN}/TCP_IP-DoS-HTTP_train.pcap.csv", 1)

    said = refuses(damage)
    assert "3 problems" in said or "4 problems" in said
    assert f"{TRAIN}/Benign_train.pcap.csv, line 1: missing column 'Rate', 'Srate' (compared with release v1, 45 columns)" in said
    assert "line 1: unknown column 'Speed'" in said
    assert f"{TRAIN}/TCP_IP-DoS-TCP1_train.pcap.csv: the file is empty" in said
    assert "unknown attack 'TCP_IP-DoS-HTTP'" in said


def test_a_folder_that_does_not_exist_is_named(refuses):
    assert "/raw: there is no such folder" in refuses(shutil.rmtree)


def test_a_typo_in_a_configuration_key_is_answered_with_the_nearest_key(refuses):
    assert "unknown configuration key 'ingest.block_byte'; did you mean 'ingest.block_bytes'?" in refuses(
        lambda raw: None, "ingest.block_byte=8192"
    )


def test_malformed_lines_are_rejected_and_the_rest_is_loaded(ward, submit, spark):
    raw = ward / "raw with three bad lines"
    shutil.copytree(ward / "raw", raw)

    def spoil(text):
        lines = text.splitlines()
        lines[3], lines[7], lines[9] = lines[3] + ",1", lines[7].replace("0.5", "fast", 1), ",".join([""] * 45)
        return "\n".join(lines) + "\n"

    edit(raw / TRAIN / "Benign_train.pcap.csv", spoil)
    done = submit("ingest_flows", f"data.raw={raw}", f"output.folder={ward / 'out'}")
    assert done.status == 0, done.stderr
    assert done.told["rows"] == {"in": 100, "out": 97, "rejected": 3}
    warehouse = Warehouse(ward / "out" / DataConfig(str(raw), "", 0).name / "warehouse", "delta")
    assert warehouse.read(spark, BRONZE_FLOWS).count() == 97
    rejects = warehouse.read(spark, BRONZE_REJECTS).orderBy("source_line").collect()
    assert [(r.source_file, r.source_line, r.source_column, r.reason) for r in rejects] == [
        (f"{TRAIN}/Benign_train.pcap.csv", 4, None, "46 fields, wanted 45"),
        (f"{TRAIN}/Benign_train.pcap.csv", 8, "Header_Length", "not a number: 'fast'"),
        (f"{TRAIN}/Benign_train.pcap.csv", 10, "Header_Length", "missing value: ''"),
    ]
    assert rejects[1].raw.startswith("fast,0.5")


def test_a_job_that_comes_too_early_says_which_table_it_lacks(submit, tmp_path):
    done = submit("refine_flows", f"output.folder={tmp_path}")
    assert done.status == 2
    assert "there is no table bronze.flows" in done.stderr


def test_an_unknown_job_is_refused_with_those_there_are(submit):
    done = submit("ingest_flow")
    assert done.status == 2
    assert "build_features, evaluate_detector, explain_alerts, ingest_flows, refine_flows" in done.stderr


def test_an_option_that_the_job_does_not_know_is_refused(submit, tmp_path):
    done = submit("ingest_flows", f"output.folder={tmp_path}", "--replce")
    assert done.status == 2
    assert "--replce" in done.stderr
