import json
from pathlib import Path

import pytest

from iomt_ids.contract.errors import SourceError
from iomt_ids.runtime import job as job_module
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.lock import held

CONF = Path(__file__).parents[2] / "conf" / "local.yaml"


@pytest.fixture(autouse=True)
def shared_session(spark, monkeypatch):
    """A job ends its session; these end with the tests."""
    from contextlib import nullcontext

    monkeypatch.setattr(job_module, "open_session", lambda job, table_format: nullcontext(spark))


def arguments(tmp_path, *more):
    return ["--config", str(CONF), "--set", f"output.folder={tmp_path}", *more]


def test_a_job_ends_with_its_text_and_one_line_of_json(tmp_path, capsys):
    outcome = Outcome({"in": 3}, {"table": "x"}, "run-1", "a table", {"gate": True})
    assert job_main("refine_flows", lambda spark, config: outcome, arguments(tmp_path)) == 0
    *text, last = capsys.readouterr().out.splitlines()
    assert text == ["a table"]
    told = json.loads(last)
    assert told["seconds"] > 0 and told["peak_memory_bytes"] > 0
    assert {k: told[k] for k in ("job", "run", "rows", "outputs", "gate")} == {
        "job": "refine_flows", "run": "run-1", "rows": {"in": 3}, "outputs": {"table": "x"}, "gate": True,
    }


def test_an_error_we_foresaw_is_one_message_and_status_2(tmp_path, capsys):
    def run(spark, config):
        raise SourceError("ward.csv: the file is empty")

    assert job_main("ingest_flows", run, arguments(tmp_path)) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.count("ward.csv: the file is empty") == 1
    assert "Traceback" not in caught.err


def test_an_error_we_did_not_foresee_is_raised(tmp_path):
    with pytest.raises(ZeroDivisionError):
        job_main("ingest_flows", lambda spark, config: 1 / 0, arguments(tmp_path))


def test_a_typo_in_the_configuration_is_status_2_before_anything_starts(tmp_path, capsys):
    typo = arguments(tmp_path, "--set", "evaluate.bootstraps=200")
    assert job_main("retrain", lambda spark, config: pytest.fail("ran"), typo) == 2
    assert "unknown configuration key 'evaluate.bootstraps'; did you mean 'evaluate.bootstrap'?" in capsys.readouterr().err


def test_a_second_start_on_the_same_data_is_refused(tmp_path, capsys):
    with held(tmp_path / "demo" / ".lock"):
        assert job_main("retrain", lambda spark, config: pytest.fail("ran"), arguments(tmp_path)) == 2
    assert "already holds" in capsys.readouterr().err
