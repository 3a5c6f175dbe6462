"""A fork says what it says, ends as it ends, and holds nothing that its parent has open."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from iomt_ids.distributed.forked import Forked


def ended(child: Forked) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait(10) == child.returncode == -signal.SIGKILL


def test_its_status_and_what_it_says_on_both_streams_arrive() -> None:
    def run() -> int:
        sys.stdout.write("on stdout\n")
        sys.stderr.write("on stderr\n")
        os.write(1, b"by no object of Python's\n")
        return 65

    child = Forked(run)
    said = child.stdout.read().decode().splitlines()
    assert sorted(said) == ["by no object of Python's", "on stderr", "on stdout"]
    assert child.wait(10) == child.returncode == 65


def test_it_does_not_wait_for_threads() -> None:
    def run() -> int:
        threading.Thread(target=time.sleep, args=(60,)).start()
        return 0

    assert Forked(run).wait(10) == 0


def test_who_raises_is_quoted() -> None:
    def run() -> int:
        raise ValueError("the disk is full")

    child = Forked(run)
    assert b"ValueError: the disk is full" in child.stdout.read()
    assert child.wait(10) == 1


def test_waiting_has_an_end() -> None:
    child = Forked(lambda: time.sleep(60) or 0)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    assert child.returncode is None
    ended(child)


def test_its_group_is_there_at_once_and_is_not_its_parents() -> None:
    for _ in range(20):
        child = Forked(lambda: time.sleep(60) or 0)
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
        ended(child)


def test_a_connection_ends_when_its_parent_hangs_up() -> None:
    here, there = socket.socketpair()
    child = Forked(lambda: time.sleep(60) or 0)
    here.close()
    there.settimeout(10)
    assert there.recv(1) == b""
    ended(child)
