"""gold.alerts, the served model -> gold.explanations, explanations.json: which features raised the alerts, and what they are worth.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/explain_alerts.py --config conf/local.yaml --set data.raw=DIR --set serve.home=out/demo
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from iomt_ids.contract.tables import BRONZE_FLOWS, GOLD_ALERTS, GOLD_EXPLANATIONS
from iomt_ids.evaluate.explanations import describe_verdicts_explained, explanations_text, name_features
from iomt_ids.evaluate.judge import describe_source
from iomt_ids.models import require_explainable
from iomt_ids.models.histogram.shapley import add_contributions
from iomt_ids.runtime.config import Config
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import describe_run, served_model, start_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs._explaining import alerts_by_verdict, alerts_with_features, permutation_of


def run(spark: SparkSession, config: Config) -> Outcome:
    """Explain some alerts of each verdict, and shuffle each feature of the rows that the model was not fitted on."""
    home, warehouse = Path(config.serve.home) if config.serve.home else config.home, Warehouse.of(config)
    served = served_model(home)
    model = require_explainable(served.detector).load(spark, served.folder, served.problem)
    alerts, flows = (warehouse.read(spark, table) for table in (GOLD_ALERTS, BRONZE_FLOWS))
    raised = alerts_by_verdict(alerts, f"{served.run}/{served.name}")
    shuffled = permutation_of(spark, model, served, Warehouse(home / "warehouse", config.output.format), config)
    into = start_run(config.home, "explain_alerts")
    with alerts_with_features(alerts, flows, model, config) as (told, labels):
        log().info("explaining alerts of %d verdicts with %s", len(labels), served.name)
        explained = add_contributions(told, model, labels).persist()
        # In many tasks; what is cached then is written as one file.
        verdicts = describe_verdicts_explained(explained, raised, served.problem)
        named = name_features(explained, served.problem, top=config.explain.features, output_kind=model.explains)
        warehouse.overwrite(named.coalesce(1), GOLD_EXPLANATIONS)
        explained.unpersist()
    content = {
        "run": describe_run(into, config, versions(spark)), "data": describe_source(flows, config.data, warehouse.versions()),
        "model": f"{served.run}/{served.name}", "output_kind": model.explains, "verdicts": verdicts, "permutation": shuffled,
    }
    into.write("explanations.json", content)
    into.finish(content["run"])
    return Outcome(
        {"alerts": sum(raised.values()), "explained": sum(v["explained"] for v in verdicts)},
        {**into.outputs(), GOLD_EXPLANATIONS.name: str(warehouse.path(GOLD_EXPLANATIONS))},
        into.id, explanations_text(content),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("explain_alerts", run, argv)


if __name__ == "__main__":
    sys.exit(main())
