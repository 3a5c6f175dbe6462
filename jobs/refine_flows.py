"""bronze.flows -> silver.flows (labelled, flagged, split).

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/refine_flows.py --config conf/local.yaml
"""

import sys

from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import BRONZE_FLOWS, SILVER_FLOWS
from iomt_ids.prepare.clean import clean_flows
from iomt_ids.prepare.copies import count_copies
from iomt_ids.prepare.label import label_flows
from iomt_ids.prepare.split import cut_flows, split_flows
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.tables import Warehouse


def run(spark: SparkSession, config: Config) -> Outcome:
    """Label, flag and split every row, and count the copies of each; none is lost."""
    warehouse = Warehouse.of(config)
    flows = warehouse.read(spark, BRONZE_FLOWS)
    rows_in = warehouse.rows(spark, BRONZE_FLOWS)
    log().info("refining flows")
    refined = (
        flows.transform(clean_flows)
        .transform(label_flows)
        .transform(cut_flows, scheme=config.split_scheme())
        .transform(split_flows, salt=config.split.salt, validation_fraction=config.split.validation_fraction)
        .transform(count_copies, rows=rows_in)
    )
    before = warehouse.version(SILVER_FLOWS)
    warehouse.overwrite(refined, SILVER_FLOWS)
    rows_out = warehouse.rows(spark, SILVER_FLOWS)
    if rows_in != rows_out:
        warehouse.restore(spark, SILVER_FLOWS, before)
        raise ContractError(f"{rows_in} rows in, {rows_out} out: they do not add up; nothing was kept")
    return Outcome(
        rows={"in": rows_in, "out": rows_out, "rejected": 0},
        outputs={SILVER_FLOWS.name: str(warehouse.path(SILVER_FLOWS))},
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("refine_flows", run, argv)


if __name__ == "__main__":
    sys.exit(main())
