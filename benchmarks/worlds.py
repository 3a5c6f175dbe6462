"""What more ranks would be worth on links that are slower than loopback: ranks in networks of their own, links shaped.

    PYTHONPATH=lib:. python benchmarks/worlds.py [STEPS] [NETWORK ...] [BACKEND ...]

A simulation, as root on Linux. Each rank is a process of the launcher's own kind in a network namespace of its own. The
switch between them is ours, in user space: each sender has so many bits a second, each frame arrives so much later. Ranks add
up gradients of the network's size as in a training, by Horovod or the ring of sockets; what they compute between is slept,
for as long as steps of that network have taken one core just before (drawn from 200 of them), because two cores cannot
compute for eight ranks. Prints one JSON line a network, link and backend. `efficiency` of a world of N ranks is a step of one
rank, which speaks to nobody, over the mean step of N; `ratio` is that of the largest world times its ranks: what N ranks
train in the time of one.

The model: a step of N takes as long as the slowest of N computations (what drawing says), then 2 (N - 1) / N gradients
through a sender's bits a second (the ring's bound, Patarasuk and Yuan, 2009), then 2 (N - 1) turns of the ring, each of
`delays_a_turn` times the link's delay and `turn_ms` more, and `once_ms`. These three are fitted to all links and all worlds
but the largest, by least squares and not below 0. `model_error` is the most that the model's efficiency is off in those,
`unseen_error` in the largest, which it has not seen; `predicted` is what it says of 8, 32 and 128 workers.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import multiprocessing
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from loader import written
from ranks import network
from scipy.optimize import nnls

from iomt_ids.distributed.barrier import Order, start_rank
from iomt_ids.distributed.order import ShardPlan
from iomt_ids.distributed.rendezvous import Rendezvous
from iomt_ids.distributed.shards import count_rows, read_rows
from iomt_ids.distributed.tensors import load_tensorflow
from iomt_ids.distributed.train import Training
from iomt_ids.distributed.work import Alone, Communicator, Work
from iomt_ids.distributed.worker import BACKENDS, FACTS

_WORLDS, _PREDICTED = (2, 3, 4, 6, 8), (8, 32, 128)
_BATCH, _ROWS, _MEASURED, _SEED, _DRAWS = 1024, 20_480, 200, 7, 20_000
_NET, _HOME, _LONGEST_S = "10.213.77", 250, 600.0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_TUNSETIFF, _TUNSETOFFLOAD, _CHECKSUMS_AND_TCP = 0x400454CA, 0x400454D0, 0x01 | 0x02
# What virtio puts before a frame: how to cut it, and whether its checksum is still to be computed.
_HEADER, _LARGEST = 10, 70_000


class Link(NamedTuple):
    """What the switch makes of the way to a rank: it reads it from a file, which a rank may change."""

    delay_s: float
    bits_per_s: float

    def write(self, file: Path) -> None:
        """Tell the switch."""
        with file.open("r+b") as held:
            held.write(struct.pack("dd", *self))


_LINKS = {"one switch": Link(1e-4, 1e9), "two buildings": Link(1e-3, 1e9), "two sites": Link(5e-3, 1e8)}


def steps(job: dict[str, Any], ranks: Communicator) -> tuple[dict[str, Any], bytes]:
    """Mean seconds of a step, by network and link: a computation slept, a gradient reduced."""
    import tensorflow as tf

    found, reduce = [], tf.function(ranks.mean_gradient, autograph=False)
    dice = np.random.default_rng([job["seed"], ranks.rank])
    for told in job["networks"]:
        flat = tf.zeros(told["weights"])
        computed = dice.choice(told["step_s"], job["steps"])
        for link in _LINKS.values():
            if ranks.rank == 0:
                link.write(Path(job["link_file"]))
            ranks.sum(np.zeros(1))
            for _ in range(5):
                reduce(flat).numpy()
            start = time.perf_counter()
            for seconds in computed:
                time.sleep(seconds)
                reduce(flat).numpy()
            found.append((time.perf_counter() - start) / job["steps"])
    return {"step_s": found}, b""


class _Switch:
    """Frames between taps: one after the other from each sender, and later."""

    def __init__(self, taps: dict[bytes, int], link_file: Path) -> None:
        self._taps, self._link_file = taps, link_file
        self._free_at = dict.fromkeys(taps.values(), 0.0)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._numbered = 0

    def run(self) -> None:
        """Until it is killed."""
        with self._link_file.open("rb", buffering=0) as held:
            while True:
                link = Link(*struct.unpack("dd", os.pread(held.fileno(), 16, 0)))
                now = time.monotonic()
                # Who has sent more than its link has carried is not listened to: frames wait in its kernel.
                quiet = [tap for tap, free_at in self._free_at.items() if free_at <= now]
                due = [self._waiting[0][0]] if self._waiting else []
                due += [free_at for free_at in self._free_at.values() if free_at > now]
                for tap in select.select(quiet, [], [], max(0.0, min(due) - now) if due else None)[0]:
                    self._take(tap, os.read(tap, _LARGEST), link)
                self._deliver()

    def _take(self, tap: int, frame: bytes, link: Link) -> None:
        sent_at = max(time.monotonic(), self._free_at[tap]) + 8 * (len(frame) - _HEADER) / link.bits_per_s
        self._free_at[tap] = sent_at
        to = self._taps.get(frame[_HEADER:_HEADER + 6])
        for other in self._taps.values() if to is None else (to,):
            if other != tap:
                self._numbered += 1
                heapq.heappush(self._waiting, (sent_at + link.delay_s, self._numbered, other, frame))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            *_, tap, frame = heapq.heappop(self._waiting)
            os.write(tap, frame)


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


def _tap(name: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    # Large pieces stay whole, or a switch in Python could not carry a gigabit.
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _CHECKSUMS_AND_TCP)
    return tap


@contextmanager
def _networks(ranks: int, link_file: Path) -> Iterator[list[str]]:
    """A namespace a rank, and this host, on one switch; the namespaces' names."""
    names, taps = [f"world{os.getpid()}-{rank}" for rank in range(ranks)], {}
    with ExitStack() as undo:
        for place, name in ((_HOME, ""), *enumerate(names)):
            tap, address = f"w{os.getpid() % 100000}-{place}", f"02:00:00:00:00:{place:02x}"
            taps[bytes.fromhex(address.replace(":", ""))] = file = _tap(tap)
            undo.callback(os.close, file)
            if name:
                _ip(f"netns add {name}")
                undo.callback(_ip, f"netns del {name}")
                _ip(f"link set {tap} netns {name}")
                _ip(f"-n {name} link set {tap} name eth0")
                _ip(f"-n {name} link set lo up")
            there, tap = (f"-n {name} ", "eth0") if name else ("", tap)
            _ip(f"{there}link set {tap} address {address} up")
            _ip(f"{there}addr add {_NET}.{place + 1}/24 dev {tap}")
        switch = multiprocessing.get_context("fork").Process(target=_Switch(taps, link_file).run, daemon=True)
        switch.start()
        undo.callback(switch.join)
        undo.callback(switch.kill)
        yield names


def _world(backend: str, ranks: int, job: dict[str, Any], folder: Path) -> list[float]:
    """Seconds of a step of so many ranks, by network and link."""
    link_file = Path(job["link_file"])
    next(iter(_LINKS.values())).write(link_file)
    with _networks(ranks, link_file) as names, Rendezvous(f"{_NET}.{_HOME + 1}") as rendezvous, ExitStack() as undo:
        order = Order(Work("worlds:steps", job), ranks, *rendezvous.address, rendezvous.key, backend, 60)
        started = []
        for rank, name in enumerate(names):
            own = folder / f"{backend}-{ranks}-{rank}"
            own.mkdir()
            process = start_rank(
                order, rank, names, str(own), "", within=("ip", "netns", "exec", name), interface="eth0"
            )
            undo.callback(process.kill)
            started.append((process, own))
        for process, _ in started:
            process.stdin = None  # it has been told all, and communicate would speak to it
            said, _ = process.communicate(timeout=_LONGEST_S)
            if process.returncode:
                raise SystemExit(said.decode("utf-8", "replace"))
        found = [json.loads((own / FACTS).read_text())["step_s"] for _, own in started]
    return [float(seconds) for seconds in np.mean(found, axis=0)]


def _computed(kind: str, folder: str) -> tuple[str, dict[str, Any]]:
    """Seconds of steps of one rank on one core, and how many weights there are."""
    tf = load_tensorflow(threads=1)
    source, job = written(folder, _ROWS, 1000)
    job |= {"network": network(kind)}
    job["params"] |= {"batch_rows": _BATCH}
    plan = ShardPlan(count_rows(job["train"], job["copies"]), 1, _BATCH)
    training = Training(job, plan, read_rows(job, "train", 0, 1), Alone())
    asked = *(tf.constant(a[:_BATCH]) for a in (training.train.features, training.classes)), tf.constant(0)
    seconds = []
    for number in range(20 + _MEASURED):
        start = time.perf_counter()
        training._step(*asked).numpy()
        if number >= 20:
            seconds.append(time.perf_counter() - start)
    return source, {"kind": kind, "weights": training.net.count_params(), "step_s": seconds}


class _Model:
    """What a step takes in a world; see the module's docstring.

    Parameters
    ----------
    told : dict
        Of the network: how many weights, what a step has taken one core.
    measured : dict
        Seconds of a step, by link and ranks.
    """

    def __init__(self, told: dict[str, Any], measured: dict[tuple[Link, int], float]) -> None:
        self._told, self._slowest = told, {}
        seen = [world for world in measured if world[1] != max(_WORLDS)]
        left = [max(0.0, measured[world] - self._known(*world)) for world in seen]
        self.costs = nnls(np.array([self._sides(*world) for world in seen]), np.array(left))[0]

    def step_s(self, link: Link, ranks: int) -> float:
        """Seconds."""
        return self._known(link, ranks) + float(self.costs @ self._sides(link, ranks))

    def _known(self, link: Link, ranks: int) -> float:
        if ranks not in self._slowest:
            dice = np.random.default_rng(_SEED)
            self._slowest[ranks] = float(np.mean(dice.choice(self._told["step_s"], (_DRAWS, ranks)).max(axis=1)))
        return self._slowest[ranks] + 2 * (ranks - 1) / ranks * 32 * self._told["weights"] / link.bits_per_s

    @staticmethod
    def _sides(link: Link, ranks: int) -> list[float]:
        turns = 2.0 * (ranks - 1)
        return [turns * link.delay_s, turns, 1.0]


def _told(told: dict[str, Any], measured: dict[tuple[Link, int], float]) -> Iterator[dict[str, Any]]:
    model, alone, largest = _Model(told, measured), float(np.mean(told["step_s"])), max(_WORLDS)
    off = {world: abs(alone / seconds - alone / model.step_s(*world)) for world, seconds in measured.items()}
    for name, link in _LINKS.items():
        yield {
            "network": told["kind"], "weights": told["weights"], "link": name, "delay_ms": 1e3 * link.delay_s,
            "mbit_s": link.bits_per_s / 1e6, "ratio": round(largest * alone / measured[link, largest], 2),
            "step_ms": round(1e3 * alone, 1), "efficiency": {n: round(alone / measured[link, n], 3) for n in _WORLDS},
            "delays_a_turn": round(model.costs[0], 2), "turn_ms": round(1e3 * model.costs[1], 2),
            "once_ms": round(1e3 * model.costs[2], 2), "model_error": round(max(off[link, n] for n in _WORLDS if n != largest), 3),
            "unseen_error": round(off[link, largest], 3),
            "predicted": {n: round(alone / model.step_s(link, n), 3) for n in _PREDICTED},
        }


def main(count: int, kinds: list[str], backends: list[str]) -> int:
    """Measure and print the JSON lines."""
    with tempfile.TemporaryDirectory(prefix="bench-worlds-") as held:
        link_file = Path(held) / "link"
        link_file.write_bytes(bytes(16))
        found = [_computed(kind, held) for kind in kinds]
        source, networks = found[0][0], [told for _, told in found]
        job = {"networks": networks, "steps": count, "seed": _SEED, "link_file": str(link_file)}
        for backend in backends:
            worlds = {ranks: _world(backend, ranks, job, Path(held)) for ranks in _WORLDS}
            for place, told in enumerate(networks):
                measured = {
                    (link, ranks): seconds[place * len(_LINKS) + number]
                    for ranks, seconds in worlds.items() for number, link in enumerate(_LINKS.values())
                }
                for line in _told(told, measured):
                    sys.stdout.write(json.dumps({
                        "bench": "worlds", "peer": "one rank", "data": f"{source}; computation and links simulated",
                        "backend": backend, "batch": _BATCH, "steps": count, **line,
                    }) + "\n")
                    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    backends = [word for word in sys.argv[1:] if word in BACKENDS]
    kinds = [word for word in sys.argv[1:] if not word.isdigit() and word not in BACKENDS]
    given = [int(word) for word in sys.argv[1:] if word.isdigit()]
    sys.exit(main(given[0] if given else 60, kinds or ["dense_net", "conv_net"], backends or ["horovod", "ring"]))
