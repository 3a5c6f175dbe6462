"""captured CSV files -> bronze.flows (+ bronze.rejects).

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/ingest_flows.py --config conf/local.yaml --set data.raw=DIR
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ContractError, SourceError
from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS
from iomt_ids.demo import demo_files
from iomt_ids.ingest.plan import cut_blocks, find_files
from iomt_ids.ingest.read import number_blocks, read_flows, read_rejects
from iomt_ids.ingest.sources import sources
from iomt_ids.runtime.clock import derive_seed
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.files import write_tree
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.session import task_slots
from iomt_ids.runtime.tables import Warehouse


def raw_folder(config: Config) -> Path:
    """The folder of raw files; the demo's is written on first use."""
    if not config.data.is_demo:
        return Path(config.data.raw)
    folder = config.home / f"raw-{config.data.demo_rows}-{config.seed}"
    if not folder.exists():
        log().info("writing %d rows of synthetic demo data to %s", config.data.demo_rows, folder)
        files = demo_files(config.data.demo_rows, derive_seed(config.seed, "demo"))
        write_tree(folder, ((file.path, file.chunks()) for file in files))
    return folder


def run(spark: SparkSession, config: Config) -> Outcome:
    """Read every file, or refuse them all; the tables change together or not at all."""
    known = sources()
    if config.data.source not in known:
        raise SourceError(f"unknown source '{config.data.source}'; known: {', '.join(known)}")
    files = find_files(raw_folder(config), known[config.data.source])
    blocks = number_blocks(spark, cut_blocks(files, config.ingest.block_bytes), task_slots(spark))
    rows_in = sum(b.lines for b in blocks)
    log().info("reading %d rows of %d files", rows_in, len(files))
    warehouse = Warehouse.of(config)
    before = {table: warehouse.version(spark, table) for table in (BRONZE_FLOWS, BRONZE_REJECTS)}
    try:
        warehouse.overwrite(read_flows(spark, blocks, task_slots(spark)), BRONZE_FLOWS)
        warehouse.overwrite(read_rejects(spark, blocks, task_slots(spark)), BRONZE_REJECTS)
        rows_out, rejected = (warehouse.rows_written(spark, table) for table in before)
        if rows_in != rows_out + rejected:
            raise ContractError(f"{rows_in} rows in, {rows_out} out and {rejected} rejected: they do not add up; nothing was kept")
    except BaseException:
        for table, version in before.items():
            warehouse.restore(spark, table, version)
        raise
    if rejected:
        log().warning("%d rows were rejected, see %s", rejected, warehouse.path(BRONZE_REJECTS))
    return Outcome(
        rows={"in": rows_in, "out": rows_out, "rejected": rejected},
        outputs={table.name: str(warehouse.path(table)) for table in before},
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("ingest_flows", run, argv)


if __name__ == "__main__":
    sys.exit(main())
