"""The command ``iomt-ids``: look the machine over, submit a job, start a cluster, write demo data.

Nothing is imported before it is needed: ``iomt-ids --help`` answers without Spark.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TextIO

from iomt_ids.contract.errors import ConfigError, IomtIdsError

PROFILES = ("local", "standalone", "cluster", "gpu")
# Where they are, only their owner knows.
_ELSEWHERE = ("cluster", "gpu")
_CLUSTER = Path("out") / "cluster"
# Files that Java's options name relative to the project.
_OF_JAVA = ("conf/log4j2.properties", ".venv/spark.jsa")
_JAVA_OPTIONS = re.compile(r"^spark\.driver\.extraJavaOptions\s+(.+)$", re.MULTILINE)
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 done, 2 an error we foresaw or a fault that ``doctor`` found; of ``submit``, the job's own exit status.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if rest and options.command is not _submit:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        status: int = options.command(options)
    except IomtIdsError as error:
        sys.stderr.write(f"iomt-ids: {error}\n")
        return 2
    return status


def size_in_bytes(text: str) -> int:
    """A size such as ``1GB`` in bytes.

    Examples
    --------
    >>> size_in_bytes("1GB"), size_in_bytes("1.5 MiB"), size_in_bytes("300")
    (1000000000, 1572864, 300)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B?)", text.strip().upper())
    if not found or found[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 300MB or 1GB")
    return int(float(found[1]) * _UNITS[found[2]])


def submit_command(
    project: Path,
    job: str,
    profile: str,
    properties: Path,
    *,
    settings: Sequence[str] = (),
    assignments: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """The complete spark-submit command of a job, which works without us.

    Parameters
    ----------
    project : Path
        The project's folder.
    job : str
        A file of ``jobs/``, with or without ``.py``.
    profile : str
        Names ``conf/<profile>.yaml``.
    properties : Path
        The file with Spark's settings.
    settings : sequence of str
        Of Spark: ``spark.key=value``; they go before the properties file's.
    assignments : sequence of str
        Of the job: ``key=value``.
    options : sequence of str
        Of this job alone, e.g. ``--replace``; the job refuses what it does not know.

    Raises
    ------
    ConfigError
        If there is no such job; the message lists those there are.
    """
    from iomt_ids.runtime.place import spark_command, spark_environment

    script = project / "jobs" / f"{job.removesuffix('.py')}.py"
    if not script.is_file():
        known = sorted(path.stem for path in (project / "jobs").glob("[!_]*.py"))
        raise ConfigError(f"no job '{job}' in {project / 'jobs'}; there are: {', '.join(known)}")
    wanted, unwanted = spark_environment()
    return [
        "/usr/bin/env",
        *(word for name in unwanted for word in ("-u", name)),
        *(f"{name}={value}" for name, value in wanted.items()),
        str(spark_command("spark-submit")),
        "--properties-file", str(properties),
        *_java_options(project, properties),
        *(word for setting in settings for word in ("--conf", setting)),
        "--py-files", str(project / "dist" / "iomt_ids.zip"),
        str(script),
        "--config", str(project / "conf" / f"{profile}.yaml"),
        *(word for assignment in assignments for word in ("--set", assignment)),
        *options,
    ]


def _java_options(project: Path, properties: Path) -> list[str]:
    # From elsewhere the files that the properties file names would not be found.
    found = _JAVA_OPTIONS.search(properties.read_text(encoding="utf-8")) if Path.cwd() != project else None
    if found is None or not any(name in found[1] for name in _OF_JAVA):
        return []
    options = found[1]
    for name in _OF_JAVA:
        options = options.replace(f"={name}", f"={project / name}")
    return ["--driver-java-options", options]


def _submit(options: argparse.Namespace) -> int:
    from iomt_ids.runtime.package import write_package
    from iomt_ids.runtime.place import project_folder
    from iomt_ids.runtime.standalone import submit_properties

    project = project_folder()
    properties = project / "conf" / "spark" / f"{options.profile}.conf"
    for setting in options.spark_conf:
        if not re.fullmatch(r"spark\.[^=\s]+=.*", setting):
            raise ConfigError(f"--spark-conf {setting}: wanted spark.KEY=VALUE")
    if options.profile in _ELSEWHERE and not any(c.startswith("spark.master=") for c in options.spark_conf):
        raise ConfigError(f"--profile {options.profile}: say where it is, e.g. --spark-conf spark.master=spark://HOST:7077")
    # The archive comes before the checkout on the import path: an old one would run old code.
    write_package(project, project / "dist" / "iomt_ids.zip")
    started = options.profile == "standalone" and options.start_cluster and _cluster_up(project, sys.stderr)
    try:
        if options.profile == "standalone":
            properties = submit_properties(project / _CLUSTER)
        command = submit_command(
            project, options.job, options.profile, properties, settings=options.spark_conf, assignments=options.set,
            options=options.rest,
        )
        _say(shlex.join(command))
        return 0 if options.dry_run else _run(command)
    finally:
        if started:
            # The job's line of JSON stays the last one on stdout.
            _cluster_down(project, sys.stderr)


def _run(command: Sequence[str]) -> int:
    # Spark and the job write to the same stderr: a file must be appended to by both, or they write over each other.
    fcntl.fcntl(2, fcntl.F_SETFL, fcntl.fcntl(2, fcntl.F_GETFL) | os.O_APPEND)
    child = subprocess.Popen(command)

    def pass_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    # Ctrl-C reaches the job by itself, as it is in the same terminal; we only have to outlive it.
    on_terminate = signal.signal(signal.SIGTERM, pass_on)
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, on_terminate)
        signal.signal(signal.SIGINT, on_interrupt)
    return status if status >= 0 else 128 - status


def _cluster_up(project: Path, to: TextIO) -> bool:
    from iomt_ids.runtime.place import find_java, spark_command
    from iomt_ids.runtime.standalone import cluster_up, describe

    home, says = find_java()
    if home is None:
        raise ConfigError(f"{says}; run: iomt-ids doctor")
    environment = {"JAVA_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    properties = project / "conf" / "spark" / "standalone.conf"
    started = cluster_up(project / _CLUSTER, properties, spark_command("spark-class"), environment)
    _say(f"cluster {'started' if started else 'runs already'}: {describe(project / _CLUSTER)}", to)
    return started


def _cluster_down(project: Path, to: TextIO) -> None:
    from iomt_ids.runtime.standalone import cluster_down

    _say("cluster stopped" if cluster_down(project / _CLUSTER) else "no cluster runs", to)


def _cluster(options: argparse.Namespace) -> int:
    from iomt_ids.runtime.place import project_folder
    from iomt_ids.runtime.standalone import describe, is_up

    project = project_folder()
    if options.action == "up":
        _cluster_up(project, sys.stdout)
    elif options.action == "down":
        _cluster_down(project, sys.stdout)
    else:
        _say(describe(project / _CLUSTER))
        return 0 if is_up(project / _CLUSTER) else 1
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from iomt_ids.runtime.doctor import examine, report
    from iomt_ids.runtime.place import project_folder

    findings = list(examine(project_folder()))
    _say(report(findings))
    return 2 if any(found.mend is not None for found in findings) else 0


def _package(options: argparse.Namespace) -> int:
    from iomt_ids.runtime.package import write_package
    from iomt_ids.runtime.place import project_folder

    project = project_folder()
    target = project / "dist" / "iomt_ids.zip"
    changed = write_package(project, target)
    _say(f"{target} {'written' if changed else 'is up to date'}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from iomt_ids.demo import demo_files, rows_for_bytes
    from iomt_ids.runtime.files import write_tree

    rows = options.rows if options.bytes is None else rows_for_bytes(options.bytes, release=options.release)
    made = demo_files(rows, options.seed, release=options.release)
    written = write_tree(options.folder, ((file.path, file.chunks()) for file in made))
    _say(f"{rows} rows of synthetic demo data, {written} bytes, in {options.folder}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from iomt_ids.models import detectors
    from iomt_ids.runtime.runs import saved_model

    model = saved_model(options.model)
    kind = detectors()[model.detector]
    if not kind.is_network:
        raise ConfigError(
            f"{model.name} is no network; {model.detector} is saved in MLlib's own layout, which stock Spark reads: "
            f"{model.folder}"
        )
    if options.out.exists() and any(options.out.iterdir()):
        raise ConfigError(f"{options.out} is not empty; name a folder that is not there yet")
    kind.load(None, model.folder, model.problem).export(options.out)
    _say(f"{model.name} as TensorFlow's SavedModel, scaling inside, in {options.out}; signature.json says what goes in and out")
    return 0


def _say(text: str, to: TextIO | None = None) -> None:
    stream = to or sys.stdout
    stream.write(text + "\n")
    stream.flush()


def _parser() -> argparse.ArgumentParser:
    about = "Learn to see cyber attacks in the traffic of hospital devices."
    parser = argparse.ArgumentParser(prog="iomt-ids", description=about)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_submit(commands.add_parser(
        "submit", help="run a job by spark-submit, and print the command that does it",
        epilog="Any other option is the job's own, e.g. ingest_flows --replace.",
    ))
    doctor = commands.add_parser("doctor", help="what is wrong with this machine, and the line that mends it")
    doctor.set_defaults(command=_doctor)
    cluster = commands.add_parser("cluster", help="Spark standalone on loopback: a master and two workers")
    cluster.add_argument("action", choices=("up", "down", "status"))
    cluster.set_defaults(command=_cluster)
    package = commands.add_parser("package", help="write dist/iomt_ids.zip, for spark-submit --py-files")
    package.set_defaults(command=_package)
    export = commands.add_parser("export", help="a trained network as TensorFlow's SavedModel, which needs neither Spark nor us")
    export.add_argument("model", metavar="MODEL_FOLDER", type=Path, help="out/<data name>/runs/<run id>/models/<model>")
    export.add_argument("out", metavar="OUT", type=Path, help="a folder that is not there yet, or empty")
    export.set_defaults(command=_export)
    _add_demo(commands.add_parser("demo", help="write the synthetic demo data as files in the official layout"))
    return parser


def _add_submit(submit: argparse.ArgumentParser) -> None:
    add = submit.add_argument
    add("job", metavar="JOB", help="a file of jobs/, e.g. retrain or evaluate_detector")
    add("--profile", choices=PROFILES, default="local", help="conf/spark/PROFILE.conf and conf/PROFILE.yaml")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of conf/base.yaml; repeatable")
    add("--spark-conf", action="append", default=[], metavar="spark.KEY=VALUE", help="a Spark setting; repeatable")
    add("--start-cluster", action="store_true", help="standalone: start it if it is not up, and stop it afterwards")
    add("--dry-run", action="store_true", help="print the command and do not run it")
    submit.set_defaults(command=_submit)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("folder", metavar="DIR", type=Path)
    size = demo.add_mutually_exclusive_group()
    size.add_argument("--rows", type=int, default=20_000, help="rows of all files together (default 20000)")
    size.add_argument("--bytes", type=size_in_bytes, metavar="SIZE", help="instead of rows, e.g. 300MB or 1GB")
    demo.add_argument("--seed", type=int, default=7, help="the same seed, the same bytes (default 7)")
    demo.add_argument("--release", choices=("v1", "v2"), default="v1", help="45 columns or 39 (default v1)")
    demo.set_defaults(command=_demo)


if __name__ == "__main__":
    sys.exit(main())
