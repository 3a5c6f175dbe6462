"""How ranks find each other at the rendezvous, whatever joins them then."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from iomt_ids.distributed.signed import ask

JOIN_S = 60.0
# Ranks that start together are there within milliseconds; one that is not may take long, and is asked for less and less.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05
# HTTP's word for what will not come any more.
GONE = 410


def all_tell(order: dict[str, Any], scope: str, what: str, own: str, deadline: float) -> list[str]:
    """What every rank tells, by rank, once all have told it.

    Parameters
    ----------
    order : dict
        Of a rank: its ``rank``, the ``size``, and the ``rendezvous`` and ``key`` of the launch.
    scope, what : str
        What it is about.
    own : str
        What this rank tells.
    deadline : float
        By the monotonic clock.

    Raises
    ------
    TimeoutError
        If a rank has not told it by then.
    ConnectionError
        If a rank has failed.
    """
    (host, port), key = order["rendezvous"], bytes.fromhex(order["key"])
    told, found, pause = None, list[str](), _FIRST_PAUSE_S
    while len(found) < order["size"]:
        told = told or ask(host, port, key, "PUT", f"/{scope}/{what}-{order['rank']}", json.dumps(own).encode())
        answer = told and ask(host, port, key, "GET", f"/{scope}/{what}-{len(found)}")
        if answer and answer[0] == 200:
            found.append(json.loads(answer[1]))
        elif answer and answer[0] == GONE:
            raise ConnectionError(f"a rank has failed before rank {len(found)} told its {what}")
        elif time.monotonic() > deadline:
            raise TimeoutError(f"rank {len(found)} has not told its {what} for {JOIN_S:.0f} s")
        else:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    return found


def own_address(host: str, port: int) -> str:
    """The address of this host from which a place is reached; loopback when all is on one machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])
