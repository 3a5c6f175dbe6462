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
    """In place of the module `time` and of the event that ends a watch: whoever waits has waited."""

    def __init__(self, ends_after):
        self.now, self.end = 0.0, ends_after

    def monotonic(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds
        return self.now > self.end


def test_long_work_says_every_ten_seconds_what_it_is_doing(monkeypatch, caplog):
    said = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())
    watch = Watch()
    watch._stop = Clock(ends_after=35)
    monkeypatch.setattr(progress, "time", watch._stop)
    caplog.set_level(logging.INFO, logger=log().name)  # not by the attribute: a logger remembers what an earlier level let through
    monkeypatch.setattr(log(), "handlers", [handler, progress._Listener(watch)])
    log().info("training forest\nwith its settings")
    watch._follow()
    assert said[1:] == [f"still training forest: 0 of 0 tasks, {s} s" for s in (10, 20, 30)]
    assert watch.peak_bytes > 1_000_000


def test_a_watch_listens_as_long_as_the_work_goes_on():
    with Watch().following() as watch:
        listeners = [h for h in log().handlers if isinstance(h, progress._Listener)]
        assert [h._watch for h in listeners][-1] is watch and watch._thread.is_alive()
    assert not watch._thread.is_alive()
    assert watch.peak_bytes > 1_000_000
    assert not [h for h in log().handlers if isinstance(h, progress._Listener) and h._watch is watch]


def test_the_java_process_counts_too(spark):
    with Watch().following() as watch:
        watch.see(spark)
        assert len(watch._roots) == 2
        time.sleep(1.2)
    assert watch.peak_bytes > 200_000_000
