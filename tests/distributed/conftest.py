"""What tests of ranks share: another network."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

# Of the range for tests between networks (RFC 2544), which nobody routes.
_HERE, _THERE = "198.19.213.1", "198.19.213.2"


class OtherNetwork(NamedTuple):
    """A network namespace that is joined to this host by a cable."""

    here: str
    there: str
    interface: str
    within: tuple[str, ...]


@pytest.fixture
def elsewhere() -> Iterator[OtherNetwork]:
    """Two ends of a cable (veth), one of them in a namespace of its own: addresses, the other end, what runs a command there."""
    name, ends = f"iomt{os.getpid()}", (f"ia{os.getpid() % 100000}", f"ib{os.getpid() % 100000}")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("another network needs root and ip (iproute2)")
    for command in (
        f"netns add {name}", f"link add {ends[0]} type veth peer name {ends[1]} netns {name}",
        f"addr add {_HERE}/30 dev {ends[0]}", f"link set {ends[0]} up", f"-n {name} addr add {_THERE}/30 dev {ends[1]}",
        f"-n {name} link set {ends[1]} up", f"-n {name} link set lo up",
    ):
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)
    yield OtherNetwork(_HERE, _THERE, ends[1], ("ip", "netns", "exec", name))
    subprocess.run(["ip", "link", "del", ends[0]], check=True)
    subprocess.run(["ip", "netns", "del", name], check=True)
