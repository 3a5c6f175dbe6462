"""How fast saved trees answer, against MLlib's `transform` through Spark, and treelite and scikit-learn in memory.

    PYTHONPATH=lib python benchmarks/scoring.py [ROWS[,ROWS ...]] [PAIRS] [PEER ...]

Prints one JSON line a peer and number of rows; growth and memory as in `benchmarks/forest.py`. `ratio` is the peer's
time over ours (above 1: ours is faster), the median of interleaved pairs after one warm-up of both; `low` and `high`
are the extremes of the pairs. Two threads each, the same rows. Against MLlib both score the same saved model, read the
same cached rows and throw the answers away; `mllib_boosting` chains the models of all classes. treelite scores the very
trees that we score (as float64), scikit-learn a forest of its own with as many trees, as deep. `differing` counts rows
with another label than the peer's, where the model is the same. Rows are those of `benchmarks/forest.py`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from forest import drawn_rows, from_command_line, measured, spark_table, tell, timed
from pyspark.ml.classification import GBTClassificationModel, RandomForestClassificationModel
from sklearn.ensemble import RandomForestClassifier

from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import spark_path
from iomt_ids.models import gradient_boosted, random_forest
from iomt_ids.models.gradient_boosted import FittedMllibBoosting
from iomt_ids.models.histogram.forest import Forest, Shape, grow_threaded
from iomt_ids.models.histogram.order import bin_all
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


class _Transform:
    """Scoring through Spark with the answers thrown away; `labels` keeps them."""

    def __init__(self, model: Any, flows: Any) -> None:
        self.model, self.flows = model, flows

    def __call__(self) -> None:
        scored = self.model.transform(self.flows, with_features=False).select("prediction", "probability")
        scored.write.format("noop").mode("overwrite").save()

    def labels(self) -> np.ndarray:
        scored = self.model.transform(self.flows, with_features=False).select("flow_id", "prediction").toArrow()
        return scored["prediction"].to_numpy()[np.argsort(scored["flow_id"].to_numpy())]


def _mllib(known: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> tuple[_Side, _Side]:
    params = random_forest.Params(trees=_TREES, depth=_DEPTH, bins=_BINS, features_per_node="sqrt")

    def stock(folder: Path, problem: Problem) -> Any:
        model = RandomForestClassificationModel.load(spark_path(folder / "mllib"))
        return FittedMllib(model, problem, scaled=False, facts={})

    return _saved(random_forest, params, stock, known, labels, unseen)


def _mllib_boosting(known: np.ndarray, labels: np.ndarray, unseen: np.ndarray) -> tuple[_Side, _Side]:
    params = gradient_boosted.Params(rounds=_TREES, depth=5, bins=_BINS, patience=0)

    def stock(folder: Path, problem: Problem) -> Any:
        folders = sorted(folder.iterdir(), key=lambda f: int(f.name))
        return FittedMllibBoosting([GBTClassificationModel.load(spark_path(f)) for f in folders], problem)

    return _saved(gradient_boosted, params, stock, known, labels, unseen)


def _saved(
    detector: Any, params: Any, stock: Callable[[Path, Problem], Any], known: np.ndarray, labels: np.ndarray, unseen: np.ndarray
) -> tuple[_Side, _Side]:
    flows, problem = spark_table(known, labels)
    held_out, _ = spark_table(unseen, np.zeros(len(unseen)))
    ours = detector.fit(flows, problem, params, validation=flows, seed=_SEED, launcher=None)
    with tempfile.TemporaryDirectory() as folder:
        ours.save(Path(folder))
        return _Transform(ours, held_out), _Transform(stock(Path(folder), problem), held_out)


def _differing(ours: _Side, theirs: _Side) -> int:
    if isinstance(ours, _Transform) and isinstance(theirs, _Transform):
        return int((ours.labels() != theirs.labels()).sum())
    return int((ours().argmax(axis=1) != theirs().argmax(axis=1)).sum())


_PEERS = {"treelite": _treelite, "scikit-learn": _scikit, "mllib": _mllib, "mllib_boosting": _mllib_boosting}


def main(rows: int, pairs: int, peers: list[str]) -> list[dict[str, Any]]:
    """Run the pairs and print a JSON line a peer."""
    source, values, labels = drawn_rows(_LEARNT + rows)
    lines = []
    for peer in peers:
        ours, theirs = _PEERS[peer](values[:_LEARNT], labels[:_LEARNT], values[_LEARNT:])
        ours()
        theirs()
        both = [(timed(ours), timed(theirs)) for _ in range(pairs)]
        lines.append(tell({
            "bench": "scoring", "peer": peer, "data": source, "rows": rows, "features": values.shape[1],
            "classes": int(labels.max()) + 1, "trees": _TREES, "depth": 5 if peer == "mllib_boosting" else _DEPTH,
            "threads": _THREADS, "pairs": pairs,
            **measured(both),
            "differing": None if peer == "scikit-learn" else _differing(ours, theirs),
        }))
    return lines


if __name__ == "__main__":
    sys.exit(from_command_line(main, _PEERS))
