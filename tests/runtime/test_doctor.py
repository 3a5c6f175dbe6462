"""Each fault is seen, and comes with the line that mends it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from iomt_ids.runtime import doctor
from iomt_ids.runtime.doctor import (
    Finding,
    check_horovod,
    check_jars,
    check_java,
    check_memory,
    check_pairs,
    check_python,
    check_slots,
    check_spark_home,
    check_workers_python,
    report,
)
from iomt_ids.runtime.place import find_java, java_fault

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30
GOOD = {
    "pyspark": "4.2.0", "delta-spark": "4.4.0", "tensorflow-cpu": "2.18.1", "horovod": "0.28.1", "numpy": "2.0.2",
    "pyarrow": "26.0.1", "protobuf": "5.29.6",
}


def a_java(folder: Path, modules: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\nprintf '{modules}'\n", encoding="utf-8")
    java.chmod(0o755)
    return java


def some_jars(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    checksums = folder / "jars.sha256"
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names]
    checksums.write_text("".join(lines), encoding="utf-8")
    return checksums


@pytest.mark.parametrize(
    ("version", "fault"), [((3, 10, 9), True), ((3, 11, 2), False), ((3, 12, 3), False), ((3, 13, 0), True)]
)
def test_only_python_3_11_and_3_12_will_do(version: tuple[int, int, int], fault: bool) -> None:
    assert (check_python(version).mend is not None) is fault


@pytest.mark.parametrize(
    ("modules", "fault"),
    [
        ("java.base@17.0.1\\njdk.incubator.vector@17.0.1\\n", None),
        ("java.base@21\\njdk.incubator.vector@21\\n", None),
        ("java.base@11.0.2\\n", "is Java 11, wanted 17 or 21"),
        ("java.base@25\\njdk.incubator.vector@25\\n", "is Java 25, wanted 17 or 21"),
        ("java.base@17.0.1\\n", "lacks the module jdk.incubator.vector"),
        ("Unrecognized option\\n", "no Java at all"),
    ],
)
def test_only_a_full_jdk_17_or_21_will_do(tmp_path: Path, modules: str, fault: str | None) -> None:
    says = java_fault(a_java(tmp_path, modules))
    assert (says is None) if fault is None else (says is not None and fault in says)


def test_the_java_of_java_home_comes_first_if_it_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = a_java(tmp_path / "good", "java.base@21\\njdk.incubator.vector@21\\n")
    bad = a_java(tmp_path / "bad", "java.base@11\\n")
    monkeypatch.setenv("JAVA_HOME", str(good.parent.parent))
    assert find_java() == (good.parent.parent, str(good))
    monkeypatch.setenv("JAVA_HOME", str(bad.parent.parent))
    assert find_java()[0] != bad.parent.parent


def test_a_missing_java_comes_with_the_command_that_installs_it() -> None:
    assert "openjdk-17-jre-headless" in (check_java(None, "no Java found").mend or "")


def test_one_core_is_too_few_for_two_ranks() -> None:
    assert check_slots(1).mend
    assert check_slots(2).mend is None


def test_a_foreign_python_for_the_executors_is_a_fault(tmp_path: Path) -> None:
    ours = tmp_path / "python"
    assert check_workers_python({"PYSPARK_PYTHON": "/usr/bin/python3"}, ours).mend == (
        "unset PYSPARK_PYTHON    (iomt-ids submit sets it)"
    )
    assert check_workers_python({"PYSPARK_DRIVER_PYTHON": "/usr/bin/python3"}, ours).mend
    assert check_workers_python({"PYSPARK_PYTHON": str(ours)}, ours).mend is None
    assert check_workers_python({}, ours).mend is None


def test_another_spark_is_a_fault() -> None:
    assert check_spark_home({"SPARK_HOME": "/opt/spark"}).mend == "unset SPARK_HOME"
    assert check_spark_home({}).mend is None


def test_too_little_memory_comes_with_a_heap_that_fits() -> None:
    assert check_memory(8 * GIB, 6 * GIB).mend is None
    assert "\\15g/" in (check_memory(7 * GIB, 6 * GIB).mend or "")


def test_a_missing_a_changed_and_a_foreign_jar_are_all_named(tmp_path: Path) -> None:
    checksums = some_jars(tmp_path, "delta-a.jar", "delta-b.jar", "delta-c.jar")
    assert check_jars(tmp_path, checksums).mend is None
    (tmp_path / "delta-a.jar").unlink()
    (tmp_path / "delta-b.jar").write_text("changed", encoding="utf-8")
    (tmp_path / "delta-d.jar").write_text("foreign", encoding="utf-8")
    found = check_jars(tmp_path, checksums)
    assert found.mend
    assert "delta-a.jar is missing, delta-b.jar differs, delta-d.jar is not ours" in found.says


def test_the_pinned_versions_do_not_break_each_other() -> None:
    assert [found.mend for found in check_pairs(GOOD)] == [None]


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("tensorflow-cpu", "2.19.0"), ("numpy", "2.1.0"), ("numpy", "1.26.4"), ("protobuf", "6.30.0"),
        ("pyspark", "4.3.0"), ("pyspark", "4.1.1"), ("delta-spark", "4.4.1"), ("delta-spark", "4.3.1"),
        ("pyspark-client", "4.2.0"), ("pyarrow", "22.0.0"), ("petastorm", "0.13.1"),
    ],
)
def test_a_version_that_breaks_another_is_a_fault(package: str, version: str) -> None:
    found = list(check_pairs({**GOOD, package: version}))
    assert found
    assert all(one.mend and f"{package} {version}" in one.says for one in found)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("", "does not load"),
        ("no gloo", "compiled without Gloo"),
        ("ModuleNotFoundError: No module named 'horovod'", "No module named 'horovod'"),
    ],
)
def test_a_horovod_without_gloo_or_not_loading_is_a_fault(answer: str, says: str) -> None:
    found = check_horovod(answer)
    assert found.mend
    assert says in found.says
    assert check_horovod("gloo").mend is None


def test_every_fault_is_printed_with_the_line_that_mends_it() -> None:
    text = report([Finding("Python", "3.11.2"), Finding("jars", "delta-a.jar is missing", "scripts/set_up.sh run")])
    assert text == (
        "ok    Python: 3.11.2\nFAULT jars: delta-a.jar is missing\n      mend it with: scripts/set_up.sh run\n1 fault"
    )


@pytest.mark.slow
def test_nothing_is_wrong_with_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its memory and cores are the machine's own affair.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYSPARK_DRIVER_PYTHON", sys.executable)
    found = [finding for finding in doctor.examine(ROOT) if finding.what not in ("memory", "slots")]
    assert [finding for finding in found if finding.mend] == []
    assert {"Python", "Java", "PYSPARK_PYTHON", "jars", "versions", "Horovod"} <= {finding.what for finding in found}
