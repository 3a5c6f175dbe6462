"""What several tests share: one lazy session with the users' own settings, real rows where they are, a folder per test."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from pyspark.sql import SparkSession
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]
# Beside the project, never in it; a lone clone has none and says so.
REAL_DATA = ROOT.parent / "shared" / "data" / "ciciomt2024"

# Every Java that a test starts lives for seconds: without the second compiler it needs half the processor time. It would then
# keep room for a fifth of the code only, and in the session of all tests throw away what it compiles again a moment later.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=240m")

# A loaded machine is no failure, and a red test must be red again when it is run again.
settings.register_profile("steady", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=10_000)  # make fuzz-ingest: other cases every time
settings.load_profile("steady")


# What starts or stops the one cluster of this folder, or waits for Horovod's ranks: never two of them at once, longest first.
ALONE = ("tests/jobs/test_chain.py", "tests/jobs/test_readme.py", "tests/jobs/test_real_rows.py")


def group_of(nodeid: str) -> str:
    """Tests of one group run one after the other: those of a file, since they share what is slow to make, and those above."""
    file = nodeid.split("::")[0]
    return "alone" if file in ALONE else "lib" if file.startswith("lib/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """`make test` runs two groups at a time."""

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest first."""
    items.sort(key=lambda item: group_of(item.nodeid) != "alone")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session on two cores, configured by the file that users submit with."""
    place = tmp_path_factory.mktemp("spark")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    # Executors import our packages from here, as they do from the zip that users submit.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "lib"), str(ROOT)])
    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        f"--properties-file {ROOT / 'conf/spark/local.conf'} --master local[2] --driver-memory 3g "
        f"--conf spark.sql.warehouse.dir={place} --conf spark.sql.shuffle.partitions=2 pyspark-shell"
    )
    session = SparkSession.builder.appName("tests").getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real rows in the official layout."""
    if not REAL_DATA.is_dir():
        pytest.skip("real rows are not beside this clone")
    return REAL_DATA
