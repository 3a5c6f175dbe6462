"""Isolation forest (Liu, Ting, Zhou 2008): what random cuts soon set apart from benign rows is an anomaly.

Grown by scikit-learn on a sample of benign train rows, and by nothing else: no attack is known to it. Saved as plain arrays,
because scikit-learn's own files are pickles, which run what they hold; scored from them inside Spark's Python workers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from iomt_ids.contract.attacks import benign_labels
from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.models.detector import Detector
from iomt_ids.models.histogram.forest import Splits
from iomt_ids.models.histogram.score import FlatTrees, add_verdicts, matrix

_FILE = "isolation_forest.npz"
_MOST_CUTS = 65_534  # places among them have 16 bits in `models.histogram.descend`
_SEEDS = 2**32  # scikit-learn takes smaller seeds only


@dataclass(frozen=True)
class Params:
    """Hyperparameters, chosen on validation rows, see docs/experiments.md.

    Attributes
    ----------
    trees, rows_per_tree : int
        Trees, and rows that each is grown on.
    most_rows : int
        Rows of the sample that trees take theirs from; it is gathered in the driver.
    benign_quantile : float
        Share of held-out benign rows that are no alert.
    """

    trees: int = 100
    rows_per_tree: int = 4096
    most_rows: int = 100_000
    benign_quantile: float = 0.99


@dataclass(frozen=True, eq=False)
class IsolationScorer:
    """A grown forest; see `models.histogram.score.Scorer`.

    Attributes
    ----------
    trees : tuple of Splits
        Over signed logarithms.
    lengths : tuple of ndarray of float64, shape (nodes, 1)
        Path length at each leaf: its depth, and what its rows would still take to be set apart.
    usual : float
        The mean path length of as many rows as a tree is grown on.
    threshold, spread : float
        The strangeness at which a row is an alert, and what it takes to change the log-odds by one.
    """

    trees: tuple[Splits, ...]
    lengths: tuple[np.ndarray, ...]
    usual: float
    features: int
    threshold: float = 0.0
    spread: float = 1.0

    def strangeness(self, rows: np.ndarray) -> np.ndarray:
        """Two to the minus of the mean path length in units of the usual one: scikit-learn's negative `score_samples`.

        Parameters
        ----------
        rows : ndarray of float64, shape (rows, features)

        Returns
        -------
        ndarray of float64, shape (rows,)
            Between 0 and 1; a half is usual.
        """
        # Trees of scikit-learn compare single precision.
        logs = _signed_log(rows).astype(np.float32).astype(np.float64)
        return 2.0 ** (-self._flat.sums(logs, 1)[:, 0] / (len(self.trees) * self.usual))

    @cached_property
    def _flat(self) -> FlatTrees:
        return FlatTrees(self.trees, self.lengths, [0] * len(self.trees), self.features)

    def probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Scorer`; the alarm score ranks rows and is no probability of an attack."""
        alarm = 1 / (1 + np.exp(-np.clip((self.strangeness(rows) - self.threshold) / self.spread, -36, 36)))
        return np.column_stack([1 - alarm, alarm]), (alarm > 0.5).astype(np.int64)


class FittedIsolationForest:
    """A grown and calibrated forest; see `models.detector.FittedDetector`."""

    importances: dict[str, float] | None = None

    def __init__(self, scorer: IsolationScorer, problem: Problem) -> None:
        self.scorer = scorer
        self.problem = problem
        self.curves: list[dict[str, float]] = []
        nodes = sum(tree.feature.size for tree in scorer.trees)
        self.facts: dict[str, Any] = {"trees": len(scorer.trees), "nodes": nodes, "threshold": scorer.threshold}

    def transform(self, flows: DataFrame, *, with_features: bool = True) -> DataFrame:
        """See `models.detector.FittedDetector`."""
        # It names both classes although it has learnt from one.
        known = dataclasses.replace(self.problem, labels=(0, 1))
        return add_verdicts(flows, known, self.scorer, with_features=with_features)

    def save(self, folder: Path) -> None:
        """Write plain arrays; nothing in them is run when they are read."""
        scorer = self.scorer
        np.savez_compressed(
            folder / _FILE, feature=np.concatenate([t.feature for t in scorer.trees]),
            threshold=np.concatenate([t.threshold for t in scorer.trees]), right=np.concatenate([t.right for t in scorer.trees]),
            lengths=np.concatenate(scorer.lengths), nodes=np.array([t.feature.size for t in scorer.trees]),
            facts=np.array([scorer.usual, scorer.features, scorer.threshold, scorer.spread]),
        )


def fit(
    flows: DataFrame, problem: Problem, params: Params, *, validation: DataFrame, seed: int, launcher: Any
) -> FittedIsolationForest:
    """Grow on benign rows alone; held-out benign rows tell from where on a row is an alert.

    Raises
    ------
    ContractError
        If there are no benign rows on either side, or the problem has other classes than benign and attack.
    """
    if problem.n_classes != 2:
        raise ContractError(f"an isolation forest tells benign from attack; it cannot learn the task {problem.task}")
    benign, held_out = (
        rows.filter(F.col(problem.label_column).isin(*benign_labels(problem.task)) & (F.col(problem.copies_column) > 0))
        for rows in (flows, validation)
    )
    sample, others = (_sample(rows, problem, params.most_rows, seed) for rows in (benign, held_out))
    if not len(sample) or not len(others):
        raise ContractError("an isolation forest needs benign rows to grow on, and held-out ones for its threshold")
    grown = grow(_signed_log(sample), params, seed)
    usual, rare = np.quantile(grown.strangeness(others), [0.5, params.benign_quantile])
    # At a half a row is rarer than it may be; the median benign row is as far below as that is likely.
    distance = np.log(params.benign_quantile / (1 - params.benign_quantile))
    scorer = dataclasses.replace(grown, threshold=float(rare), spread=float(max(rare - usual, 1e-9) / distance))
    return FittedIsolationForest(scorer, problem)


def load(spark: SparkSession, folder: Path, problem: Problem) -> FittedIsolationForest:
    """Read what `FittedIsolationForest.save` wrote."""
    with np.load(folder / _FILE, allow_pickle=False) as saved:
        ends = np.cumsum(saved["nodes"])[:-1]
        feature, threshold, right, lengths = (np.split(saved[n], ends) for n in ("feature", "threshold", "right", "lengths"))
        usual, features, alarm, spread = saved["facts"].tolist()
    trees = tuple(Splits(*parts) for parts in zip(feature, threshold, right, strict=True))
    return FittedIsolationForest(IsolationScorer(trees, tuple(lengths), usual, int(features), alarm, spread), problem)


def grow(logs: np.ndarray, params: Params, seed: int) -> IsolationScorer:
    """Grow trees on rows of signed logarithms.

    Parameters
    ----------
    logs : ndarray of float64, shape (rows, features)
    """
    from sklearn.ensemble import IsolationForest  # a second to import, which only a fit needs

    rows = min(params.rows_per_tree, len(logs))
    forest = IsolationForest(n_estimators=params.trees, max_samples=rows, random_state=seed % _SEEDS).fit(logs.astype(np.float32))
    grown = [_flattened(one.tree_) for one in forest.estimators_]
    cuts = [np.unique(np.concatenate([t.threshold[t.feature == f] for t, _ in grown])).size for f in range(logs.shape[1])]
    if max(cuts) > _MOST_CUTS:
        raise ContractError(f"{max(cuts)} cuts of one feature are too many; lower models.isolation_forest.trees or rows_per_tree")
    return IsolationScorer(
        tuple(splits for splits, _ in grown), tuple(lengths for _, lengths in grown), float(_mean_path(np.array([rows]))[0]),
        logs.shape[1],
    )


def _flattened(tree: Any) -> tuple[Splits, np.ndarray]:
    """A tree of scikit-learn, which grows depth first: the left child of a node is the next one."""
    is_leaf = tree.children_left < 0
    depth = np.zeros(tree.node_count)
    for node in np.flatnonzero(~is_leaf):
        depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
    splits = Splits(
        np.where(is_leaf, -1, tree.feature).astype(np.int32), tree.threshold.copy(),
        np.where(is_leaf, -1, tree.children_right).astype(np.int32),
    )
    return splits, (depth + _mean_path(tree.n_node_samples))[:, None]


def _mean_path(rows: np.ndarray) -> np.ndarray:
    """Mean depth at which one of so many rows is alone, in a tree of random cuts."""
    many = np.maximum(rows, 3).astype(float)
    return np.where(rows > 2, 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many, (rows == 2) * 1.0)


def _sample(rows: DataFrame, problem: Problem, most: int, seed: int) -> np.ndarray:
    """At most so many rows, the same ones in the same order however they are spread."""
    place = F.xxhash64(F.lit(seed), "flow_id")
    taken = rows.select(*problem.features, place.alias("_place"), "flow_id").orderBy("_place", "flow_id").limit(most).toArrow()
    batches = taken.combine_chunks().to_batches()
    return matrix(batches[0], problem.features) if batches else np.empty((0, len(problem.features)))


def _signed_log(rows: np.ndarray) -> np.ndarray:
    """Random cuts between the least and the largest value would leave heavy tails alone and the rest uncut."""
    return np.sign(rows) * np.log1p(np.abs(rows))


DETECTOR = Detector(
    Params, fit, load, "isolation forest of scikit-learn that has seen benign rows only: what is soon set apart is an anomaly",
    tasks=("binary",), is_anomaly=True,
)
