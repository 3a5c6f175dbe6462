"""Contributions to explanations: which alerts are explained, by which features, and what those of a verdict have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels, class_names
from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import EXPLANATIONS
from iomt_ids.evaluate.scores import Tally, f1_macro

# What features that are not named contribute together, so that the rows of an alert add up; no feature has this name.
OTHERS = "others"
_WIDTH = 119
_MOST_TOLD = 10
_NAMED = 3


def choose_alerts(alerts: DataFrame, *, rows: int) -> DataFrame:
    """At most so many alerts of each verdict.

    Parameters
    ----------
    alerts : DataFrame
        Of `contract.tables.ALERTS`.

    Returns
    -------
    DataFrame
        Those with the smallest `flow_id`: a hash, so they are drawn evenly, and the same every time.
    """
    in_order = Window.partitionBy("verdict").orderBy("flow_id", "source_file", "source_line")
    raised = alerts.filter("is_alert").withColumn("_place", F.row_number().over(in_order))
    return raised.filter(F.col("_place") <= rows).drop("_place")


def name_features(explained: DataFrame, problem: Problem, *, top: int, output_kind: str) -> DataFrame:
    """The most telling features of each alert, a row each, and one of all others.

    Parameters
    ----------
    explained : DataFrame
        Alerts with the features of the problem, `output`, `base` and `contributions`, an array in the order of the features.
    top : int
        Features that are named, at most.
    output_kind : str
        What contributions add up to, ``probability`` or ``margin``.

    Returns
    -------
    DataFrame
        Schema `contract.tables.EXPLANATIONS`. By absolute contribution; of those that contribute the same, the first by name
        comes first. The contributions of an alert add up to `output` less `base`.
    """
    of = [
        F.struct((-F.abs(F.col("contributions")[place])).alias("size"), F.lit(name).alias("feature"), F.col(name).alias("value"),
                 F.col("contributions")[place].alias("contribution"))
        for place, name in enumerate(problem.features)
    ]
    ranked = F.array_sort(F.array(*of))
    rest = F.aggregate(F.slice(ranked, top + 1, len(of)), F.lit(0.0), lambda total, one: total + one["contribution"])
    others = F.struct(
        F.lit(0.0).alias("size"), F.lit(OTHERS).alias("feature"), F.lit(None).cast("double").alias("value"),
        rest.alias("contribution"),
    )
    told = explained.withColumn("told", F.concat(F.slice(ranked, 1, top), F.array(others)))
    each = told.select("*", F.posexplode("told").alias("_before", "_one")).withColumns({
        **{name: F.col("_one")[name] for name in ("feature", "value", "contribution")},
        "place": F.col("_before") + 1, "output_kind": F.lit(output_kind),
    })
    return each.select(*EXPLANATIONS.fieldNames())


def describe_verdicts_explained(explained: DataFrame, alerts: Mapping[str, int], problem: Problem) -> list[dict[str, Any]]:
    """What pushes hardest, by verdict.

    Parameters
    ----------
    explained : DataFrame
        As in `name_features`.
    alerts : mapping of str to int
        Alerts of each verdict, explained or not.

    Returns
    -------
    list of dict
        A verdict each, in the order of the task's classes: ``verdict``, ``alerts``, ``explained`` and ``features``, all of them,
        with ``mean_absolute`` and ``mean`` contribution, largest absolute first.
    """
    place = range(len(problem.features))
    found = explained.groupBy("verdict").agg(
        F.count("*").alias("explained"),
        *[F.avg(F.abs(F.col("contributions")[i])).alias(f"size_{i}") for i in place],
        *[F.avg(F.col("contributions")[i]).alias(f"mean_{i}") for i in place],
    ).collect()
    told = []
    for row in sorted(found, key=lambda row: class_names(problem.task).index(row["verdict"])):
        features = [
            {"feature": name, "mean_absolute": row[f"size_{i}"], "mean": row[f"mean_{i}"]}
            for i, name in enumerate(problem.features)
        ]
        told.append({
            "verdict": row["verdict"], "alerts": alerts[row["verdict"]], "explained": row["explained"],
            "features": sorted(features, key=lambda f: (-f["mean_absolute"], f["feature"])),
        })
    return told


def describe_permutation(counts: np.ndarray, problem: Problem) -> dict[str, Any]:
    """Permutation importance: what macro-F1 loses when a feature is shuffled.

    Parameters
    ----------
    counts : ndarray of int64, shape (repeats, features + 1, classes, classes)
        Confusion matrices; the last of the features is none.

    Returns
    -------
    dict
        ``rows``, ``repeats``, ``f1_macro`` of the rows as they are, and ``features``: ``drop`` of macro-F1, the mean over repeats,
        and its ``spread``, their standard deviation (None of a single one); the largest drop first. Of features that tell the
        same, none drops far: that one is not missed does not say that it is not used.
    """
    benign = benign_labels(problem.task)
    scores = np.array([[f1_macro(Tally(matrix, benign)) for matrix in matrices] for matrices in counts])
    drops = scores[:, -1:] - scores[:, :-1]
    features = [
        {"feature": name, "drop": float(own.mean()), "spread": float(own.std(ddof=1)) if own.size > 1 else None}
        for name, own in zip(problem.features, drops.T, strict=True)
    ]
    return {
        "rows": int(counts[0, -1].sum()), "repeats": len(counts), "f1_macro": float(scores[0, -1]),
        "features": sorted(features, key=lambda f: (-f["drop"], f["feature"])),
    }


def explanations_text(content: Mapping[str, Any]) -> str:
    """The result as plain text, for the terminal.

    Parameters
    ----------
    content : mapping
        The content of ``explanations.json``.

    Returns
    -------
    str
        Lines of at most 119 characters without a newline at the end.
    """
    data, shuffled = content["data"], content["permutation"]
    told = f"hardest push on its {content['output_kind']}, mean of absolute contributions"
    lines = [
        f"{data['name']}{', synthetic demo data' if data['synthetic'] else ''}: why {content['model']} raised alerts",
        f"{'verdict':<24} {'alerts':>9} {'explained':>9}  {told}", "-" * _WIDTH,
    ]
    for v in content["verdicts"]:
        line = f"{v['verdict']:<24} {v['alerts']:>9,} {v['explained']:>9,}  "
        push = [f"{f['feature']} {f['mean_absolute']:.3f}" for f in v["features"][:_NAMED]]
        while len(line + ", ".join(push)) > _WIDTH:
            push.pop()
        lines.append(line + ", ".join(push))
    if not content["verdicts"]:
        lines.append("there is no alert")
    if shuffled:
        lines += ["", *_shuffled_lines(shuffled)]
    return "\n".join(lines)


def _shuffled_lines(shuffled: Mapping[str, Any]) -> Sequence[str]:
    rows, score, times = f"{shuffled['rows']:,}", f"{shuffled['f1_macro']:.3f}", shuffled["repeats"]
    return [f"{rows} validation rows, macro-F1 {score}; what it loses when a feature is shuffled, mean of {times}", *(
        f"  {f['feature']:<32} {f['drop']:>7.4f}" + ("" if f["spread"] is None else f" ± {f['spread']:.4f}")
        for f in shuffled["features"][:_MOST_TOLD]
    )]
