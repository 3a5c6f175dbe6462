"""Ranks of two hosts: one here, one in a network of its own, which has another address and the same host name."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from iomt_ids.distributed.barrier import Order, start_rank
from iomt_ids.distributed.rendezvous import Rendezvous
from iomt_ids.distributed.work import Communicator, Work
from iomt_ids.distributed.worker import FACTS
from tests.distributed.conftest import OtherNetwork

_MEETING_S = 120


def met(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """What all ranks' numbers come to."""
    import tensorflow as tf

    mean = ranks.mean_gradient(tf.constant([float(ranks.rank)])).numpy()
    return {"sum": ranks.sum(np.array([1.0 + ranks.rank])).tolist(), "mean": mean.tolist()}, b""


def test_ranks_of_two_hosts_meet_on_the_network_of_the_cluster(elsewhere: OtherNetwork, tmp_path: Path) -> None:
    # Here the interface is found as an executor finds it: it leads to the rendezvous. A host's name often says loopback.
    places: list[dict[str, Any]] = [{}, {"within": elsewhere.within, "interface": elsewhere.interface}]
    with Rendezvous(elsewhere.here) as rendezvous, ExitStack() as undo:
        work = Work("tests.distributed.test_two_hosts:met", {})
        order = Order(work, 2, *rendezvous.address, rendezvous.key, "horovod", _MEETING_S // 2)
        processes = []
        for rank, place in enumerate(places):
            (tmp_path / str(rank)).mkdir()
            processes.append(start_rank(order, rank, ["here", "there"], str(tmp_path / str(rank)), "", **place))
            undo.callback(processes[-1].kill)
        for process in processes:
            process.stdin = None  # it has been told all, and communicate would speak to it
        said = [process.communicate(timeout=_MEETING_S)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for rank in range(2):
        assert json.loads((tmp_path / str(rank) / FACTS).read_text()) == {"sum": [3.0], "mean": [0.5]}
