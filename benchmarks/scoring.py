"""How fast saved trees answer, against MLlib's `transform` through Spark, and treelite and scikit-learn in memory.

    PYTHONPATH=lib python benchmarks/scoring.py [ROWS] [PAIRS] [PEER ...]

Prints one JSON line a peer. `ratio` is the peer's time over ours (above 1: ours is faster), the median of interleaved
pairs after one warm-up of both; `low` and `high` are the extremes of the pairs. Two threads each, the same rows. Against
MLlib both score the same saved model, read the same cached rows and throw the answers away; `mllib_boosting` chains the
models of all classes. treelite scores the very trees that we score (as float64), scikit-learn a forest of its own with as
many trees, as deep. `differing` counts rows with another label than the peer's, where the model is the same. Rows are
those of `benchmarks/forest.py`.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from forest import drawn_rows, spark_table, timed
from sklearn.ensemble import RandomForestClassifier

from iomt_ids.models import gradient_boosted, random_forest
from iomt_ids.models.gradient_boosted import FittedMllibBoosting
from iomt_ids.models.histogram.forest import Forest, Shape, bin_all, grow_threaded
from iomt_ids.models.histogram.score import ForestScorer, Scorer
from iomt_ids.models.mllib import FittedMllib

_THREADS, _TREES, _DEPTH, _BINS, _SEED, _LEARNT = 2, 100, 10, 128, 1, 50_000
_Side = Callable[[], Any]


def _grown(rows: np.ndarray, labels: np.ndarray) -> Forest:
    shape, classes = Shape(_TREES, _DEPTH, _BINS, "sqrt", 1), int(labels.max()) + 1
    return grow_threaded(bin_all(rows, labels, classes, _BINS, _THREADS), shape, _SEED, _THREADS)


def _threaded(scorer: Scorer, rows: np.ndarray) -> np.ndarray:
    with ThreadPoolExecutor(_THREADS) as pool:
        return np.concatenate(list(pool.map(lambda part: scorer.probabilities(part)[0], np.array_split(rows, _THREADS))))


def _scikit(known: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> tuple[_Side, _Side]:
    scorer = ForestScorer(_grown(known, labels))
    theirs = RandomForestClassifier(_TREES, max_depth=_DEPTH, n_jobs=_THREADS, random_state=_SEED).fit(known, labels)
    return lambda: _threaded(scorer, unseen), lambda: theirs.predict_proba(unseen)


def _treelite(known: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> tuple[_Side, _Side]:
    import treelite

    forest = _grown(known, labels)
    model, scorer = _as_treelite(forest), ForestScorer(forest)
    return lambda: _threaded(scorer, unseen), lambda: treelite.gtil.predict(model, unseen, nthread=_THREADS)[:, 0, :]


def _as_treelite(forest: Forest) -> Any:
    from treelite.model_builder import Metadata, ModelBuilder, PostProcessorFunc, TreeAnnotation

    builder = ModelBuilder(
        threshold_type="float64", leaf_output_type="float64",
        metadata=Metadata(forest.features, "kMultiClf", True, 1, [forest.classes], (1, forest.classes)),
        tree_annotation=TreeAnnotation(len(forest.trees), [0] * len(forest.trees), [-1] * len(forest.trees)),
        postprocessor=PostProcessorFunc("identity_multiclass"), base_scores=[0.0] * forest.classes,
    )
    for tree in forest.trees:
        builder.start_tree()
        for node in range(tree.feature.size):
            builder.start_node(node)
            if tree.feature[node] >= 0:
                builder.numerical_test(
                    int(tree.feature[node]), float(tree.threshold[node]), default_left=False, opname="<=",
                    left_child_key=node + 1, right_child_key=int(tree.right[node]),
                )
            else:
                builder.leaf((tree.stats[node] / tree.stats[node].sum()).tolist())
            builder.end_node()
        builder.end_tree()
    return builder.commit()


def _through_spark(detector: Any, params: Any, as_mllib: Callable[[Path, Any], Any]) -> Callable[..., tuple[_Side, _Side]]:
    def sides(known: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> tuple[_Side, _Side]:
        flows, problem = spark_table(known, labels)
        held_out, _ = spark_table(unseen, np.zeros(len(unseen)))
        ours = detector.fit(flows, problem, params, validation=flows, seed=_SEED, launcher=None)
        folder = Path(tempfile.mkdtemp())
        ours.save(folder)
        theirs = as_mllib(folder, problem)

        def answers(model: Any) -> np.ndarray:
            scored = model.transform(held_out).select("flow_id", "prediction").toArrow()
            return scored["prediction"].to_numpy()[np.argsort(scored["flow_id"].to_numpy())]

        sides_of[id(ours)] = lambda: answers(ours)
        return _Noop(ours, held_out, answers), _Noop(theirs, held_out, answers)

    return sides


class _Noop:
    """Scoring with the answers thrown away; calling `labels` afterwards keeps them."""

    def __init__(self, model: Any, flows: Any, answers: Callable[[Any], np.ndarray]) -> None:
        self.model, self.flows, self.answers = model, flows, answers

    def __call__(self) -> None:
        self.model.transform(self.flows).select("prediction", "probability").write.format("noop").mode("overwrite").save()

    def labels(self) -> np.ndarray:
        return self.answers(self.model)
