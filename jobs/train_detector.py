"""gold.features -> models and a run record.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/train_detector.py --config conf/local.yaml --set 'train.detectors={random_forest: [attack]}'
"""

import sys

from pyspark.sql import SparkSession

from iomt_ids.contract.tables import GOLD_FEATURES
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.runs import begin_run, describe_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs._training import train

OPTIONS = {"--tune": "tune.enabled=true", "--resume": "train.resume=true"}


def run(spark: SparkSession, config: Config) -> Outcome:
    """Train into a run of its own, or into the one that is gone on with."""
    into = begin_run(config.home, "train_detector", config)
    seconds = train(spark, config, into)
    into.finish({**describe_run(into, config, versions(spark)), "tables": Warehouse.of(config).versions()})
    rows = Warehouse.of(config).read(spark, GOLD_FEATURES).groupBy("split").count()
    return Outcome(dict(rows.collect()), into.outputs(), into.id, facts={"train_seconds": seconds})


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("train_detector", run, argv, options=OPTIONS)


if __name__ == "__main__":
    sys.exit(main())
