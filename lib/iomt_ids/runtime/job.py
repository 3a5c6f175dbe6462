"""What every job shares: arguments, configuration, session, exit status, the final line of JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ConfigError, IomtIdsError
from iomt_ids.runtime.clock import seconds_since
from iomt_ids.runtime.config import Config, load_config
from iomt_ids.runtime.lock import held
from iomt_ids.runtime.log import log, say, set_up_log
from iomt_ids.runtime.progress import Watch
from iomt_ids.runtime.session import open_session


@dataclass(frozen=True)
class Outcome:
    """What a job has done, for its final line of JSON.

    Attributes
    ----------
    rows : dict of str to int
        Rows by what became of them, e.g. ``{"in": 10, "out": 9, "rejected": 1}``.
    outputs : dict of str to str
        Paths of what was written.
    run : str or None
        The run's id, if the job made one.
    text : str
        A table or message for stdout, before the JSON line.
    """

    rows: dict[str, int]
    outputs: dict[str, str]
    run: str | None = None
    text: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class _Parser(argparse.ArgumentParser):
    """Spark joins a driver's stderr into its stdout; what is wrong with the arguments is said where all errors are."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise ConfigError(f"{message}; {self.format_usage().strip()}")


def job_main(
    job: str, run: Callable[[SparkSession, Config], Outcome], argv: Sequence[str] | None = None, *,
    options: Mapping[str, str] = MappingProxyType({}), waits: bool = False,
) -> int:
    """Run a job from the command line.

    Parameters
    ----------
    job : str
        The job's name.
    run : callable
        ``run(spark, config) -> Outcome``.
    argv : sequence of str, optional
        Arguments; those of the process by default.
    options : mapping of str to str
        Options of this job alone, as short names of a configuration key, or of a key with its value.
    waits : bool
        Whether the job waits for another one on the same tables, instead of saying that it runs.

    Returns
    -------
    int
        0 done, 2 an error we foresaw, said in one message. Anything else is raised: Python exits with 1.
    """
    parser = _Parser(prog=f"{job}.py")
    parser.add_argument("--config", type=Path, required=True, help="conf/<place>.yaml; base.yaml beside it is read first")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key; repeatable")
    for option, key in options.items():
        taken: dict[str, Any] = {"action": "append_const", "const": key} if "=" in key else {
            "action": "append", "type": f"{key}={{}}".format, "metavar": "VALUE"
        }
        parser.add_argument(option, dest="set", help=f"short for --set {key}", **taken)
    set_up_log(job)
    start = time.monotonic()
    try:
        given = parser.parse_args(argv)
        config = load_config(given.config, given.set)
        log().info("configuration %s", json.dumps(config.as_dict()))
        # One writer at a time: Delta on a local disk keeps two processes apart no better than we ask it to.
        with (
            held(config.home / ".lock", wait=waits),
            Watch().following() as watch,
            open_session(job, config.output.format) as spark,
        ):
            watch.see(spark)
            outcome = run(spark, config)
    except IomtIdsError as error:
        log().error("%s", error)
        return 2
    if outcome.text:
        say(outcome.text)
    say(json.dumps({
        "job": job, "run": outcome.run, "rows": outcome.rows, "seconds": seconds_since(start),
        "peak_memory_bytes": watch.peak_bytes, "outputs": outcome.outputs, **outcome.facts,
    }))
    return 0
