"""captured CSV files -> bronze.flows (+ bronze.rejects).

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/ingest_flows.py --config conf/local.yaml --set data.raw=DIR
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import BRONZE_FLOWS, BRONZE_REJECTS
from iomt_ids.demo import demo_files
from iomt_ids.ingest.batch import Rules, plan_batch, take_in
from iomt_ids.ingest.ledger import Ledger
from iomt_ids.ingest.plan import find_files
from iomt_ids.ingest.sources import find_source
from iomt_ids.ingest.unpack import Limits
from iomt_ids.runtime.clock import derive_seed, now_ns
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.files import write_tree
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.session import task_slots
from iomt_ids.runtime.tables import Warehouse

OPTIONS = {"--replace": "ingest.replace=true", "--max-rejected-fraction": "ingest.max_rejected_fraction"}


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
    """Read what is new, or refuse it all; a table changes in one commit or not at all."""
    source, ingest = find_source(config.data.source), config.ingest
    # The demo's folder is ours: other rows under the old names are no mistake.
    replace = ingest.replace or config.data.is_demo
    rules = Rules(ingest.block_bytes, ingest.max_rejected_fraction, replace, Limits(ingest.unpacked_bytes))
    files = find_files(raw_folder(config), source, rules.limits)
    warehouse = Warehouse.of(config)
    states = {table: warehouse.state(table) for table in (BRONZE_FLOWS, BRONZE_REJECTS)}
    log().info("looking at %d files", len(files))
    slots = task_slots(spark)
    batch = plan_batch(spark, files, states[BRONZE_FLOWS], states[BRONZE_REJECTS], rules, slots)
    for name in batch.unfinished:
        log().warning("%s: the last line does not end; read as it stands, make sure that the file is complete", name)
    if not batch.changes_nothing:
        log().info("reading %d rows of %d files, %d files are known", batch.lines, len(batch.read), batch.known)
        states = take_in(spark, batch, warehouse, rules, slots=slots, now_ns=now_ns())
    flows, rejects = states[BRONZE_FLOWS], states[BRONZE_REJECTS]
    rows_in = Ledger.of(flows).lines
    if rows_in != flows.rows + rejects.rows:
        raise ContractError(f"{rows_in} rows in, {flows.rows} out and {rejects.rows} rejected: they do not add up; run again")
    if rejects.rows:
        log().warning("%d rows were rejected, see %s", rejects.rows, warehouse.path(BRONZE_REJECTS))
    return Outcome(
        rows={"in": rows_in, "out": flows.rows, "rejected": rejects.rows},
        outputs={table.name: str(warehouse.path(table)) for table in states},
        facts={"files": {"read": len(batch.read), "known": batch.known, "dropped": len(batch.drop)}},
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("ingest_flows", run, argv, options=OPTIONS, waits=True)


if __name__ == "__main__":
    sys.exit(main())
