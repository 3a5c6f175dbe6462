"""Where the project is, and the Java and the Spark that it runs with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import iomt_ids
from iomt_ids.contract.errors import ConfigError

JAVA_VERSIONS = (17, 21)
_MODULE = "jdk.incubator.vector"


def project_folder() -> Path:
    """The folder with ``conf/`` and ``jobs/``.

    Returns
    -------
    Path
        ``$IOMT_IDS_HOME``, else the current folder, else the checkout this package was installed from.

    Raises
    ------
    ConfigError
        If none of them is the project's.
    """
    named = os.environ.get("IOMT_IDS_HOME")
    candidates = [Path(named)] if named else [Path.cwd(), Path(iomt_ids.__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "conf" / "spark").is_dir() and (folder / "jobs").is_dir():
            return folder.resolve()
    where = " or ".join(str(folder) for folder in candidates)
    raise ConfigError(f"no conf/spark and jobs in {where}; go to the project's folder or set IOMT_IDS_HOME")


def spark_command(name: str) -> Path:
    """``spark-submit`` or ``spark-class`` of the Python that runs this.

    Raises
    ------
    ConfigError
        If pyspark is not installed in it.
    """
    found = Path(sys.executable).parent / name
    if not found.is_file():
        raise ConfigError(f"{found} is not there; use the command in the project's environment: .venv/bin/iomt-ids")
    return found


def find_java() -> tuple[Path | None, str]:
    """A Java that Spark can run on.

    Returns
    -------
    Path or None
        Its home; None if there is none.
    str
        What it is, or what is wrong with the first one found.
    """
    home = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    candidates = [Path(home) / "bin" / "java"] if home else []
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"))
    complaint = "no Java found"
    for java in dict.fromkeys(path.resolve() for path in candidates):
        fault = java_fault(java)
        if fault is None:
            return java.parent.parent, str(java)
        if complaint == "no Java found":
            complaint = fault
    return None, complaint


def java_fault(java: Path) -> str | None:
    """What keeps Spark from running on this Java, or None."""
    try:
        listed = subprocess.run([str(java), "--list-modules"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{java} does not run: {error}"
    version = re.search(r"^java\.base@(\d+)", listed.stdout, re.MULTILINE)
    if version is None:
        return f"{java} is older than Java 9 or no Java at all"
    if int(version[1]) not in JAVA_VERSIONS:
        return f"{java} is Java {version[1]}, wanted 17 or 21"
    if _MODULE not in listed.stdout:
        return f"{java} lacks the module {_MODULE}; it is not a full JDK"
    return None


def spark_environment() -> tuple[dict[str, str], list[str]]:
    """What a Spark of ours needs in its environment.

    Returns
    -------
    dict of str to str
        Variables to set.
    list of str
        Variables to take away, because they would start another Spark.
    """
    # Executors start the Python of PYSPARK_PYTHON; without it the system's, which lacks our packages.
    wanted = {
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    home, _ = find_java()
    on_path = shutil.which("java")
    unfit = not os.environ.get("JAVA_HOME") and (not on_path or Path(on_path).resolve().parent.parent != home)
    if home is not None and (unfit or os.environ.get("JAVA_HOME", str(home)) != str(home)):
        wanted["JAVA_HOME"] = str(home)
    return wanted, [name for name in ("SPARK_HOME", "SPARK_CONF_DIR") if name in os.environ]
