"""How fast boosted trees are trained, against XGBoost and LightGBM in memory and MLlib through Spark, on the very same rows.

    PYTHONPATH=lib python benchmarks/boosting.py [ROWS[,ROWS ...]] [PAIRS] [PEER ...]

Prints one JSON line a peer and number of rows; growth and memory as in `benchmarks/forest.py`. `ratio` is the peer's
time over ours (above 1: ours is faster), the median of interleaved pairs after one warm-up of both; `low` and `high`
are the extremes of the pairs. All use two threads and as many rounds, as deep trees, the same learning rate and bins;
LightGBM's `num_leaves` is that of a full tree. Against XGBoost (hist) and LightGBM ours is binning and boosting of the
same arrays; against MLlib, which has to train a model a class and takes minutes, it is the whole fit through Spark
from a Delta table.
Macro-F1 and log-loss are of held-out rows. Rows are those of `benchmarks/forest.py`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from forest import delta_table, drawn_rows, from_command_line, measured, spark_table, tell, timed
from sklearn.metrics import f1_score, log_loss

from iomt_ids.models import gradient_boosted
from iomt_ids.models.histogram.boost import BoostShape, boost
from iomt_ids.models.histogram.order import bin_all
from iomt_ids.models.histogram.score import BoostingScorer

_THREADS, _ROUNDS, _DEPTH, _BINS, _RATE, _SEED = 2, 20, 5, 128, 0.2, 1
_Side = Callable[[], Any]
_Probabilities = Callable[[Any], np.ndarray]


def _ours(rows: np.ndarray, labels: np.ndarray) -> _Side:
    classes, shape = int(labels.max()) + 1, BoostShape(_ROUNDS, _DEPTH, _BINS, _RATE)

    def fit() -> Any:
        return BoostingScorer(boost(bin_all(rows, labels, classes, _BINS, _THREADS), shape, _SEED, threads=_THREADS)[0])

    return fit


def _xgboost(rows: np.ndarray, labels: np.ndarray, unseen: np.ndarray, held: str) -> tuple[_Side, _Side, _Probabilities]:
    from xgboost import XGBClassifier

    def theirs() -> Any:
        return XGBClassifier(
            n_estimators=_ROUNDS, max_depth=_DEPTH, learning_rate=_RATE, max_bin=_BINS, tree_method="hist", n_jobs=_THREADS,
            random_state=_SEED,
        ).fit(rows, labels)

    return _ours(rows, labels), theirs, _in_memory(unseen)


def _lightgbm(rows: np.ndarray, labels: np.ndarray, unseen: np.ndarray, held: str) -> tuple[_Side, _Side, _Probabilities]:
    from lightgbm import LGBMClassifier

    def theirs() -> Any:
        return LGBMClassifier(
            n_estimators=_ROUNDS, max_depth=_DEPTH, num_leaves=2**_DEPTH, learning_rate=_RATE, max_bin=_BINS - 1,
            n_jobs=_THREADS, random_state=_SEED, verbose=-1,
        ).fit(rows, labels)

    return _ours(rows, labels), theirs, _in_memory(unseen)


def _in_memory(unseen: np.ndarray) -> _Probabilities:
    return lambda model: model.predict_proba(unseen) if hasattr(model, "predict_proba") else model.probabilities(unseen)[0]


def _mllib(rows: np.ndarray, labels: np.ndarray, unseen: np.ndarray, held: str) -> tuple[_Side, _Side, _Probabilities]:
    flows, problem = delta_table(rows, labels, held)
    held_out, _ = spark_table(unseen, np.zeros(len(unseen)))

    def fit(engine: str) -> Any:
        params = gradient_boosted.Params(engine, _ROUNDS, _DEPTH, _BINS, _RATE, patience=0)
        return gradient_boosted.fit(flows, problem, params, validation=held_out, seed=_SEED, launcher=None)

    def probabilities(model: Any) -> np.ndarray:
        scored = model.transform(held_out).orderBy("flow_id").select("probability").collect()
        return np.array([r.probability for r in scored])[:, list(problem.labels)]

    return lambda: fit("histogram"), lambda: fit("mllib"), probabilities


_PEERS = {"xgboost": _xgboost, "lightgbm": _lightgbm, "mllib": _mllib}


def main(rows: int, pairs: int, peers: list[str]) -> list[dict[str, Any]]:
    """Run the pairs and print a JSON line a peer."""
    source, values, labels = drawn_rows(rows + rows // 4)
    lines = []
    for peer in peers:
        with tempfile.TemporaryDirectory(prefix="bench-boosting-") as held:
            ours, theirs, probabilities = _PEERS[peer](values[:rows], labels[:rows], values[rows:], held)
            ours()
            if peer != "mllib":
                theirs()
            both = [(timed(ours), timed(theirs)) for _ in range(pairs)]
            answers = [probabilities(side.made) for side in both[-1]]
        marks = [(f1_score(labels[rows:], p.argmax(axis=1), average="macro"), log_loss(labels[rows:], p)) for p in answers]
        lines.append(tell({
            "bench": "boosting", "peer": peer, "data": source, "rows": rows, "features": values.shape[1],
            "classes": int(labels.max()) + 1, "rounds": _ROUNDS, "depth": _DEPTH, "bins": _BINS, "threads": _THREADS,
            "pairs": pairs,
            **measured(both),
            "f1_macro": round(float(marks[0][0]), 4), "peer_f1_macro": round(float(marks[1][0]), 4),
            "log_loss": round(float(marks[0][1]), 4), "peer_log_loss": round(float(marks[1][1]), 4),
        }))
    return lines


if __name__ == "__main__":
    sys.exit(from_command_line(main, _PEERS))
