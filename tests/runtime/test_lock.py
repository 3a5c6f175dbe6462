"""One job at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iomt_ids.contract.errors import BusyError
from iomt_ids.runtime.lock import held

_HOLD = """
import sys, time
from pathlib import Path
from iomt_ids.runtime.lock import held
with held(Path(sys.argv[1])):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    time.sleep(60)
"""


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = tmp_path / "out" / ".lock"
    with held(lock), pytest.raises(BusyError) as caught, held(lock):
        pytest.fail("two hold the same lock")
    assert f"process {os.getpid()} already holds {lock}" in str(caught.value)


def test_a_lock_is_free_again_after_its_block_also_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="of the job"), held(tmp_path / ".lock"):
            raise ValueError("of the job")
    with held(tmp_path / ".lock"):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_locks_of_two_data_folders_do_not_know_each_other(tmp_path: Path) -> None:
    with held(tmp_path / "a"), held(tmp_path / "b"):
        pass


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(BusyError, match=f"process {holder.pid} already holds"), held(lock):
                pytest.fail("two processes hold the same lock")
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    with held(lock):
        pass
