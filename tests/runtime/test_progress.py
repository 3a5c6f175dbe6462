import logging
import os
import time

from iomt_ids.runtime import progress
from iomt_ids.runtime.log import log
from iomt_ids.runtime.progress import Watch, process_tree_bytes


def test_memory_is_that_of_the_process_and_its_children():
    before = process_tree_bytes({os.getpid()})
    held = bytearray(b"x" * 80_000_000)
    assert process_tree_bytes({os.getpid()}) - before > 60_000_000
    del held
    assert process_tree_bytes({2**22 + 1}) == 0


class Clock:
    """In place of the module `time`: two hundredths of a second later at each look."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 0.02
        return self.now


def test_long_work_says_every_so_often_what_it_is_doing(monkeypatch, caplog):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "_SAMPLE_S", 0.002)
    monkeypatch.setattr(progress, "_LINE_S", 0.05)
    logger = log()
    monkeypatch.setattr(logger, "propagate", True)
    logger.setLevel(logging.INFO)

    started = time.monotonic()
    with caplog.at_level(logging.INFO), Watch().following() as watch:

        def lines():
            mine = [r for r in caplog.records if r.thread == watch._thread.ident]
            return [r.getMessage() for r in mine if r.getMessage().startswith("still training forest")]

        logger.info("training forest")
        while len(lines()) < 3 and time.monotonic() - started < 30:
            time.sleep(0.02)
        said = lines()
    # By the watch's own clock: never more often than every so often.
    assert 3 <= len(said) <= clock.now / 0.05, said
    assert watch.peak_bytes > 1_000_000
    assert not any(isinstance(h, progress._Listener) for h in logger.handlers)


def test_the_java_process_counts_too(spark):
    with Watch().following() as watch:
        watch.see(spark)
        assert len(watch._roots) == 2
        time.sleep(1.2)
    assert watch.peak_bytes > 200_000_000
