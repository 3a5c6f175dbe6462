"""Messages and results do not mix."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from iomt_ids.runtime.log import log, say, set_up_log


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    logger = log()
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_a_message_goes_to_stderr_in_one_line_with_the_jobs_name(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log("refine_flows")
    log().info("read %d rows", 3)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.splitlines()[0].endswith(" refine_flows read 3 rows")
    assert len(seen.err.splitlines()) == 1


def test_a_result_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    say('{"rows": 3}')
    assert capsys.readouterr() == ('{"rows": 3}\n', "")


def test_setting_up_twice_writes_a_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_log("ingest_flows")
    set_up_log("retrain")
    log().error("once")
    assert capsys.readouterr().err.count("once") == 1


def test_the_root_logger_hears_nothing_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    set_up_log("retrain")
    with caplog.at_level(logging.INFO):
        log().info("ours")
    assert caplog.records == []
