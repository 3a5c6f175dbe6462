"""new flows, the served model -> gold.alerts; what alerts is what reaches the threshold that was picked with the model.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/score_flows.py --config conf/local.yaml --set data.raw=DIR --set serve.home=out/demo
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_ALERTS
from iomt_ids.evaluate.alerts import name_verdicts
from iomt_ids.models import detectors
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import find_run, served_model
from iomt_ids.runtime.tables import Warehouse
from jobs import ingest_flows
from jobs._serving import as_learnt


def run(spark: SparkSession, config: Config) -> Outcome:
    """Read the flows and give every row a verdict."""
    home = Path(config.serve.home) if config.serve.home else config.home
    served = served_model(home)
    judged = find_run(home, "served").read("scores.json")
    # Runs of before tell less.
    operating, sure = (
        next((entry for entry in judged.get(part) or () if entry["model"] == served.name), None)
        for part in ("operating", "hierarchy")
    )
    detector = detectors()[served.detector].load(spark, served.folder, served.problem)
    read = ingest_flows.run(spark, config)
    warehouse = Warehouse.of(config)
    identified = as_learnt(warehouse.read(spark, BRONZE_FLOWS), served.problem, config.features.release)
    log().info("scoring %d rows with %s", read.rows["out"], served.name)
    if operating and operating["threshold"] is None:
        log().warning(
            "no threshold of %s keeps to %d false alarms in a million as far as its validation rows can tell; every verdict that "
            "is not benign is an alert", served.name, operating["false_alarms_per_million"],
        )
    scored = detector.transform(identified, with_features=False)
    alerts = name_verdicts(
        scored, problem=served.problem, model=f"{served.run}/{served.name}", sure=sure, operating=operating
    )
    before = warehouse.version(GOLD_ALERTS)
    warehouse.overwrite(alerts, GOLD_ALERTS)
    rows = warehouse.rows(spark, GOLD_ALERTS)
    if rows != read.rows["out"]:
        warehouse.restore(spark, GOLD_ALERTS, before)
        raise ContractError(f"{read.rows['out']} rows in, {rows} verdicts: they do not add up; nothing was kept")
    raised = warehouse.read(spark, GOLD_ALERTS).filter("is_alert").count()
    return Outcome(
        rows={**read.rows, "scored": rows, "alerts": raised},
        outputs={**read.outputs, GOLD_ALERTS.name: str(warehouse.path(GOLD_ALERTS))},
        run=served.run,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("score_flows", run, argv)


if __name__ == "__main__":
    sys.exit(main())
