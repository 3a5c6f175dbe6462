"""What is wrong with this machine, each fault with the line that mends it.

Every check is a function of facts that it is handed, so that a test can hand it bad ones; `examine` gathers the facts.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
from packaging.specifiers import SpecifierSet

from iomt_ids.runtime.place import find_java

RANKS = 2
_GIB = 1 << 30
_SET_UP_AGAIN = "rm -rf .venv && scripts/set_up.sh run"


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    what : str
        Its name.
    says : str
        What was found.
    mend : str or None
        The line that mends it; None if nothing is wrong.
    """

    what: str
    says: str
    mend: str | None = None


@dataclass(frozen=True)
class BreakingPair:
    """A package at some versions that does not work with another at some versions."""

    package: str
    versions: str
    other: str
    other_versions: str
    why: str


# Each of these was met, not read about: docs/decisions/0002-set-up-by-make-and-one-shell-script.md.
BREAKING_PAIRS = (
    BreakingPair("horovod", "<=0.28.1", "tensorflow-cpu", ">=2.19", "Horovod does not compile against its headers"),
    BreakingPair("horovod", "<=0.28.1", "tensorflow", ">=2.19", "Horovod does not compile against its headers"),
    BreakingPair("tensorflow-cpu", "<2.19", "numpy", ">=2.1", "TensorFlow 2.18 is built for numpy below 2.1"),
    BreakingPair("tensorflow-cpu", "<2.19", "protobuf", ">=6", "TensorFlow 2.18 cannot load protobuf 6"),
    BreakingPair("pyarrow", ">=26", "numpy", "<2", "pyarrow 26 needs numpy 2"),
    BreakingPair("delta-spark", "~=4.4.0", "pyspark", "!=4.2.*", "delta-spark 4.4 is made for pyspark 4.2"),
    BreakingPair("delta-spark", ">=4.4.1", "pyspark", ">=4", "the jars of delta-spark 4.4.1 are not published"),
    BreakingPair("delta-spark", "<=4.3.1", "pyspark", ">4.1.1", "delta-spark 4.3.1 stops at pyspark 4.1.1"),
    BreakingPair("pyspark-client", ">=0", "pyspark", ">=0", "both install the module pyspark, the last one wins"),
    BreakingPair("pyarrow", "<23.0.1", "pyspark", ">=0", "pyarrow below 23.0.1 has an advisory"),
    BreakingPair("petastorm", ">=0", "pyarrow", ">=23", "petastorm uses what pyarrow has removed"),
)


def examine(project: Path) -> Iterator[Finding]:
    """Look at everything, cheapest first.

    Parameters
    ----------
    project : Path
        The project's folder.
    """
    yield check_python(sys.version_info[:3])
    yield check_java(*find_java())
    yield check_slots(len(os.sched_getaffinity(0)))
    yield check_workers_python(os.environ, Path(sys.executable))
    yield check_spark_home(os.environ)
    yield check_memory(_usable_memory(), _driver_memory(project / "conf" / "spark" / "local.conf"))
    yield check_jars(_pyspark_jars(), project / "requirements" / "jars.sha256")
    installed = {package: _version(package) for pair in BREAKING_PAIRS for package in (pair.package, pair.other)}
    yield from check_pairs({package: version for package, version in installed.items() if version})
    yield check_horovod(_ask_horovod())


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether TensorFlow 2.18 and Horovod can be installed for this Python."""
    name = ".".join(map(str, version))
    if version[:2] in ((3, 11), (3, 12)):
        return Finding("Python", name)
    return Finding("Python", f"{name}, wanted 3.11 or 3.12", "rm -rf .venv && PYTHON=python3.12 scripts/set_up.sh run")


def check_java(home: Path | None, says: str) -> Finding:
    """Whether there is a full JDK 17 or 21."""
    if home is not None:
        return Finding("Java", says)
    return Finding("Java", says, "sudo apt-get install -y --no-install-recommends openjdk-17-jre-headless")


def check_slots(slots: int) -> Finding:
    """Whether Horovod's ranks can run side by side; with too few it would wait ten minutes for the last one."""
    if slots >= RANKS:
        return Finding("slots", f"{slots} cores, {RANKS} needed for the dense net's ranks")
    return Finding(
        "slots", f"{slots} core, {RANKS} needed for the dense net's ranks",
        f"sed -i 's/local\\[\\*\\]/local[{RANKS}]/' conf/spark/local.conf    (two tasks then share the core)",
    )


def check_workers_python(environment: Mapping[str, str], running: Path) -> Finding:
    """Whether executors would start a Python that has our packages."""
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        chosen = environment.get(name)
        # Not resolved: an environment's python is a link to the system's, which has none of its packages.
        if chosen and Path(chosen).absolute() != running.absolute():
            return Finding(name, f"is {chosen}, this is {running}", f"unset {name}    (iomt-ids submit sets it)")
    return Finding("PYSPARK_PYTHON", environment.get("PYSPARK_PYTHON", "not set; iomt-ids submit sets it"))


def check_spark_home(environment: Mapping[str, str]) -> Finding:
    """Whether another Spark would be started than the environment's."""
    chosen = environment.get("SPARK_HOME")
    if chosen and Path(chosen).resolve() != _pyspark_jars().parent.resolve():
        return Finding("SPARK_HOME", f"is {chosen}, another Spark than the environment's", "unset SPARK_HOME")
    return Finding("SPARK_HOME", chosen or "not set")


def check_memory(usable: int, driver: int) -> Finding:
    """Whether Spark's heap and the Python processes beside it fit."""
    # Beside the heap: Java's own gigabyte, and two Python workers with TensorFlow of half a gigabyte each.
    wanted = driver + 2 * _GIB
    says = f"{usable / _GIB:.1f} GiB usable, {wanted / _GIB:.1f} GiB wanted by conf/spark/local.conf"
    if usable >= wanted:
        return Finding("memory", says)
    smaller = max(1, usable // _GIB - 2)
    return Finding(
        "memory", says,
        f"sed -i -E 's/^(spark.driver.memory +).*/\\1{smaller}g/' conf/spark/local.conf    (or stop something)",
    )


def check_jars(folder: Path, checksums: Path) -> Finding:
    """Whether exactly the Delta jars that were checked in by their hash lie inside pyspark."""
    if not checksums.is_file():
        return Finding("jars", f"{checksums} is not there", "git checkout requirements/jars.sha256")
    wanted = {name: digest for digest, name in map(str.split, checksums.read_text(encoding="utf-8").splitlines())}
    wrong = [
        f"{name} {'differs' if (folder / name).is_file() else 'is missing'}"
        for name, digest in wanted.items() if _digest(folder / name) != digest
    ]
    wrong += [f"{path.name} is not ours" for path in sorted(folder.glob("delta-*.jar")) if path.name not in wanted]
    if wrong:
        return Finding("jars", f"{folder}: {', '.join(wrong)}", "rm -f .venv/.made-from-run && scripts/set_up.sh run")
    return Finding("jars", f"{len(wanted)} of Delta, as in requirements/jars.sha256")


def check_pairs(installed: Mapping[str, str]) -> Iterator[Finding]:
    """A finding for each two packages that are known to break each other; one good one if there are none.

    Parameters
    ----------
    installed : mapping of str to str
        Package to version.

    Examples
    --------
    >>> [found.says for found in check_pairs({"tensorflow-cpu": "2.18.1", "numpy": "2.3.0"})]
    ['tensorflow-cpu 2.18.1 with numpy 2.3.0: TensorFlow 2.18 is built for numpy below 2.1']
    """
    broken = [
        f"{pair.package} {installed[pair.package]} with {pair.other} {installed[pair.other]}: {pair.why}"
        for pair in BREAKING_PAIRS
        if _within(installed.get(pair.package), pair.versions)
        and _within(installed.get(pair.other), pair.other_versions)
    ]
    for says in broken:
        yield Finding("versions", says, _SET_UP_AGAIN)
    if not broken:
        yield Finding("versions", ", ".join(f"{package} {version}" for package, version in sorted(installed.items())))


def check_horovod(answer: str) -> Finding:
    """Whether Horovod was compiled for TensorFlow, with Gloo, and loads.

    Parameters
    ----------
    answer : str
        The last line of asking it: ``gloo``, ``no gloo``, or the error it did not load with.
    """
    if answer == "gloo":
        return Finding("Horovod", "compiled for TensorFlow, with Gloo")
    says = "compiled without Gloo" if answer == "no gloo" else f"does not load: {answer or 'it said nothing'}"
    return Finding("Horovod", says, 'rm -rf "${XDG_CACHE_HOME:-$HOME/.cache}"/iomt_ids/horovod-*/ && ' + _SET_UP_AGAIN)


def report(findings: list[Finding]) -> str:
    """The findings as lines of text."""
    lines = []
    for found in findings:
        lines.append(f"{'ok   ' if found.mend is None else 'FAULT'} {found.what}: {found.says}")
        if found.mend is not None:
            lines.append(f"      mend it with: {found.mend}")
    faults = sum(found.mend is not None for found in findings)
    return "\n".join([*lines, f"{faults} faults" if faults != 1 else "1 fault"])


def _within(version: str | None, versions: str) -> bool:
    return version is not None and SpecifierSet(versions, prereleases=True).contains(version)


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _pyspark_jars() -> Path:
    try:
        found = metadata.distribution("pyspark").locate_file("pyspark/jars")
    except metadata.PackageNotFoundError:
        return Path("pyspark/jars")
    return Path(str(found))


def _usable_memory() -> int:
    usable = int(psutil.virtual_memory().available)
    # In a container the machine's memory is not ours.
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdigit():
            usable = min(usable, int(text))
    return usable


def _driver_memory(properties: Path) -> int:
    text = properties.read_text(encoding="utf-8") if properties.is_file() else ""
    found = re.search(r"^spark\.driver\.memory\s+(\d+)g$", text, re.MULTILINE)
    return int(found[1]) * _GIB if found else _GIB


def _ask_horovod() -> str:
    # In a process of its own: here it would import TensorFlow, which only iomt_ids.distributed may. Not with
    # `horovodrun --check-build`: that takes four times as long and claims frameworks that are not even installed.
    question = "import horovod.tensorflow as h; print('gloo' if h.gloo_built() else 'no gloo')"
    asked = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, timeout=120, check=False)
    lines = (asked.stdout if asked.returncode == 0 else asked.stderr).strip().splitlines()
    return lines[-1] if lines else ""
