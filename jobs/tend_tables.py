"""all tables -> the same tables in fewer files; files that no named version needs are deleted.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/tend_tables.py --config conf/local.yaml --set data.raw=DIR
"""

import sys

from pyspark.sql import SparkSession

from iomt_ids.contract.tables import TABLES
from iomt_ids.runtime.care import tend_tables
from iomt_ids.runtime.clock import now_ns
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.tables import Warehouse


def run(spark: SparkSession, config: Config) -> Outcome:
    """Compact what grows, then delete what is dead; every version that a run's scores name can still be read."""
    warehouse = Warehouse.of(config)
    log().info("tending tables")
    tended = tend_tables(spark, warehouse, config.home, now_ns() // 1_000_000)
    paths = {table.name: str(warehouse.path(table)) for table in TABLES if table.name in tended}
    return Outcome(rows={}, outputs=paths, facts={"tables": tended})


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("tend_tables", run, argv)


if __name__ == "__main__":
    sys.exit(main())
