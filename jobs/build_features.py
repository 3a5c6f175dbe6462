"""silver.flows -> gold.features (repeatable order) + gold.preparation (fitted on the train split only).

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/build_features.py --config conf/local.yaml
"""

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.flows import feature_names, past_columns
from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION, SILVER_FLOWS
from iomt_ids.prepare.features import fit_preparation, order_flows, require_complete
from iomt_ids.prepare.past import add_past, name_past
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.tables import Warehouse


def release_of(flows: DataFrame, wanted: str) -> str:
    """The release to take the feature columns from: the wanted one, or the only one there is.

    Raises
    ------
    ContractError
        If there are several and none is named.
    """
    if wanted != "auto":
        return wanted
    found = sorted(row["release"] for row in flows.select("release").distinct().collect())
    if len(found) != 1:
        raise ContractError(f"the rows are of releases {', '.join(found) or 'none'}; name one: --set features.release=...")
    return found[0]


def past_windows(config: Config) -> int:
    """Windows before a row that its features tell of: none unless a detector asks."""
    return config.features.past_windows if config.features.set == "past" or config.train.compare_past else 0


def run(spark: SparkSession, config: Config, past: int | None = None) -> Outcome:
    """Order the rows and fit centre and scale of every feature on the train split.

    Parameters
    ----------
    past : int, optional
        Windows before a row that its features tell of, if not those of the configuration.
    """
    warehouse = Warehouse.of(config)
    silver = warehouse.read(spark, SILVER_FLOWS)
    release = release_of(silver, config.features.release)
    flows = silver.filter(F.col("release") == release)
    features = feature_names(release, "all")
    require_complete(flows, features)
    rows_in, all_rows = flows.count(), silver.count()
    log().info("building features of %d rows, release %s; %d rows are of another", rows_in, release, all_rows - rows_in)
    before = warehouse.version(GOLD_FEATURES)
    windows = past_windows(config) if past is None else past
    warehouse.overwrite(add_past(flows, release, windows).transform(order_flows, rows=rows_in), GOLD_FEATURES)
    rows_out = warehouse.rows(spark, GOLD_FEATURES)
    if rows_in != rows_out:
        warehouse.restore(spark, GOLD_FEATURES, before)
        raise ContractError(f"{rows_in} rows in, {rows_out} out: they do not add up; nothing was kept")
    train = warehouse.read(spark, GOLD_FEATURES).filter(F.col("split") == "train")
    told = past_columns(feature_names(release, "leak_free")) if windows else ()
    warehouse.overwrite(fit_preparation(name_past(train, told), (*features, *told)), GOLD_PREPARATION)
    return Outcome(
        rows={"in": all_rows, "out": rows_out, "of_another_release": all_rows - rows_in},
        outputs={table.name: str(warehouse.path(table)) for table in (GOLD_FEATURES, GOLD_PREPARATION)},
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("build_features", run, argv)


if __name__ == "__main__":
    sys.exit(main())
