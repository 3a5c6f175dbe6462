"""What `score_flows` and `explain_alerts` share: rows as the served model has to see them."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from iomt_ids.contract.problem import Problem
from iomt_ids.prepare.features import require_complete
from iomt_ids.prepare.label import flow_id
from iomt_ids.prepare.past import add_past, with_past
from jobs.build_features import release_of


def as_learnt(flows: DataFrame, problem: Problem, release: str) -> DataFrame:
    """Rows with a `flow_id` and all features of a problem, those of their past too.

    Parameters
    ----------
    flows : DataFrame
        Of `bronze.flows`, all rows of each capture.
    release : str
        ``features.release``.

    Raises
    ------
    ContractError
        If a feature is missing, naming each with its number of rows.
    """
    require_complete(flows, [name for name in problem.features if name in flows.columns])
    identified = flows.withColumn("flow_id", flow_id(F.col("source_file"), F.col("source_line")))
    if problem.past_windows and not problem.is_sequence:
        identified = add_past(identified, release_of(flows, release), problem.past_windows)
    return with_past(identified, problem)
