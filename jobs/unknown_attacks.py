"""gold.features -> what detectors make of attacks that they have not learnt; no table changes.

    spark-submit --properties-file conf/spark/local.conf --py-files dist/iomt_ids.zip \\
        jobs/unknown_attacks.py --config conf/local.yaml --set data.raw=DIR --set 'unknown.hold_out=[ARP_Spoofing, Recon]'
"""

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.tables import GOLD_FEATURES, GOLD_PREPARATION
from iomt_ids.evaluate.hierarchy_counts import HierarchyCounts, count_hierarchy
from iomt_ids.evaluate.judge import describe_data
from iomt_ids.evaluate.score_counts import ScoreCounts, count_scores
from iomt_ids.evaluate.unknown import describe_unknown, plan_folds
from iomt_ids.evaluate.unknown_report import render_unknown, unknown_table
from iomt_ids.models import detectors, who_takes_part
from iomt_ids.prepare.copies import under_policy
from iomt_ids.prepare.features import fit_again, state_problem
from iomt_ids.prepare.past import with_past
from iomt_ids.runtime.clock import derive_seed
from iomt_ids.runtime.config import Config, detector_params
from iomt_ids.runtime.job import Outcome, job_main
from iomt_ids.runtime.log import log
from iomt_ids.runtime.runs import Run, describe_run, start_run
from iomt_ids.runtime.tables import Warehouse
from iomt_ids.runtime.versions import versions
from jobs import build_features, ingest_flows, refine_flows
from jobs._training import launcher_for

Counts = tuple[ScoreCounts, HierarchyCounts]


def counts_without(
    flows: DataFrame, config: Config, into: Run, detector: str, name: str = "", attacks: tuple[int, ...] = ()
) -> Counts:
    """Train without some attacks, and count what is said of rows that nothing was learnt from."""
    log().info("training %s without %s", detector, name or "leaving anything out")
    spark, kind, is_left_out = flows.sparkSession, detectors()[detector], F.col("attack_id").isin(*attacks)
    preparation = Warehouse.of(config).read(spark, GOLD_PREPARATION)
    seen = flows.filter((F.col("split") == "train") & ~is_left_out)
    whole = state_problem(seen, preparation, task=kind.tasks[-1], feature_set=config.features.set)
    unseen = flows.filter((F.col("split") != "train") & ~((F.col("split") == "validation") & is_left_out))
    train, others = (with_past(rows, whole) for rows in (seen, unseen))
    # The table's centres and scales have seen every attack.
    problem = fit_again(whole, train.filter(F.col("binary_id") == 0) if kind.is_anomaly else train)
    learnt, held_out = (
        under_policy(rows, problem.copies_column, config.train.duplicates)
        for rows in (train, others.filter(F.col("split") == "validation"))
    )
    fitted = kind.fit(
        learnt, problem, detector_params(detector, kind.params, config), validation=held_out,
        seed=derive_seed(config.seed, f"{detector}-without-{name}"), launcher=launcher_for(spark, config, into),
    )
    into.forget_checkpoints()
    met = others.filter(F.col(problem.copies_column) > 0)
    told = fitted.transform(met, with_features=False).drop("past").persist()
    try:
        return count_scores(told, problem), count_hierarchy(told, problem)
    finally:
        told.unpersist()


def run(spark: SparkSession, config: Config) -> Outcome:
    """Leave out each attack and each category; the tables are made first if there are none yet."""
    warehouse = Warehouse.of(config)
    if not warehouse.exists(GOLD_FEATURES):
        for job in (ingest_flows, refine_flows, build_features):
            job.run(spark, config)
    flows = warehouse.read(spark, GOLD_FEATURES).persist()  # read once, not for every attack
    asked, anomaly = who_takes_part(config.unknown.detectors)
    folds = plan_folds(flows.select("split", "attack_id").distinct().collect(), config.unknown.hold_out)
    into = start_run(config.home, "unknown_attacks")
    whole = {d: counts_without(flows, config, into, d) for d in (*asked, *anomaly)}
    without = {(d, fold.name): counts_without(flows, config, into, d, fold.name, fold.attacks) for fold in folds for d in asked}
    content = {
        "run": describe_run(into, config, versions(spark)), "data": describe_data(flows, config.data, warehouse.versions()),
        **describe_unknown(folds, whole, without, anomaly, config.evaluate),
    }
    flows.unpersist()
    into.write("unknown_attacks.json", content)
    into.write("unknown_attacks.html", render_unknown(content))
    into.finish(content["run"])
    text = f"{unknown_table(content)}\nreport: {into.folder / 'unknown_attacks.html'}"
    return Outcome({"folds": len(folds)}, into.outputs(), into.id, text)


def main(argv: list[str] | None = None) -> int:
    """Run the job from the command line."""
    return job_main("unknown_attacks", run, argv)


if __name__ == "__main__":
    sys.exit(main())
