"""Why trees said what they said: exact Shapley values of each feature by TreeSHAP, inside Spark's Python workers.

A row's contributions and the base value add up to what the model's own scorer says of its class. What a feature is worth that is
not known is what the rows of training say that went through the same nodes: path-dependent TreeSHAP, algorithm 2 of Lundberg et
al., "From local explanations to global understanding with explainable AI for trees", Nature Machine Intelligence 2, 2020,
https://doi.org/10.1038/s42256-019-0138-9. The shap package computes it, from our arrays and in doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

from iomt_ids.contract.errors import ContractError
from iomt_ids.contract.problem import Problem
from iomt_ids.distributed.compiled import compiled
from iomt_ids.models.histogram.forest import Splits
from iomt_ids.models.histogram.score import AdditiveScorer, broadcast_once, matrix

# How far a sum may be from what the scorer says. Sums of some hundred doubles stay a thousand times closer.
TOLERANCE = 1e-9
_ADDED = (
    T.StructField("output", T.DoubleType()), T.StructField("base", T.DoubleType()),
    T.StructField("contributions", T.ArrayType(T.DoubleType())),
)


@dataclass(frozen=True)
class OutputTree(Splits):
    """A tree that adds one number to one output.

    Attributes
    ----------
    value : ndarray of float64, shape (nodes,)
        What a leaf adds; 0 at inner nodes.
    weight : ndarray of float64, shape (nodes,)
        Weighted rows of training that a node has seen; those of an inner node are those of its children.
    """

    value: np.ndarray
    weight: np.ndarray


class Explained(Protocol):
    """A fitted detector whose verdicts can be explained; see `Detector.is_explainable`.

    Attributes
    ----------
    problem : Problem
    scorer : AdditiveScorer
    explains : str
        What contributions add up to: the ``probability`` of a class, or its ``margin``.
    """

    problem: Problem
    scorer: AdditiveScorer
    explains: str

    def trees_of(self, position: int) -> list[OutputTree]:
        """The trees whose values add up to the scorer's output of one class."""


def output_tree(tree: Splits, value: np.ndarray, rows: np.ndarray) -> OutputTree:
    """A tree of one output, without splits that make no difference to it.

    Below a node whose leaves all say the same, no feature is worth anything: the node becomes a leaf, and all Shapley values are
    what they were. A forest's trees have a class's rows in few of their leaves, so that those of one class are a lot smaller.

    Parameters
    ----------
    value : ndarray of float64, shape (nodes,)
        Read at leaves.
    rows : ndarray of float64, shape (nodes,)
        Weighted rows of training; read at leaves, where a count of 0 becomes 1.
    """
    weight, uniform = np.maximum(rows.astype(np.float64), 1.0), np.empty(tree.right.size, np.bool_)
    told = value.astype(np.float64)
    _sum_up(tree.right, weight, told, uniform)
    kept = np.flatnonzero(_reached(tree.right, uniform))
    place, is_leaf = np.full(tree.right.size, -1, np.int32), uniform[kept]
    place[kept] = np.arange(kept.size, dtype=np.int32)
    return OutputTree(
        np.where(is_leaf, -1, tree.feature[kept]).astype(np.int32), np.where(is_leaf, 0.0, tree.threshold[kept]),
        np.where(is_leaf, -1, place[tree.right[kept]]).astype(np.int32), np.where(is_leaf, told[kept], 0.0), weight[kept],
    )


class TreeShap:
    """Contributions of features to one output; what the shap package needs is made from arrays, not from a model of its own.

    Parameters
    ----------
    trees : sequence of OutputTree
        Their values add up to the output.
    """

    def __init__(self, trees: Sequence[OutputTree]) -> None:
        from shap import TreeExplainer  # seconds, and only those who explain need it

        self._explainer = TreeExplainer(
            {"trees": [_as_shap(tree) for tree in trees], "input_dtype": np.float64, "internal_dtype": np.float64},
            feature_perturbation="tree_path_dependent",
        )
        self.base = float(np.asarray(self._explainer.expected_value).item())

    def contributions(self, rows: np.ndarray) -> np.ndarray:
        """Shapley values.

        Parameters
        ----------
        rows : ndarray of float64, shape (rows, features)

        Returns
        -------
        ndarray of float64, shape (rows, features)
            In units of the output; with `base`, a row of them adds up to it.
        """
        # Its own check allows a hundredth.
        return np.asarray(self._explainer.shap_values(np.ascontiguousarray(rows, np.float64), check_additivity=False))


def add_contributions(told: DataFrame, model: Explained, labels: Iterable[int]) -> DataFrame:
    """Add `output`, `base` and `contributions` of the class that the model has named.

    - `output` (double) -- the class's probability or margin, as the scorer has it
    - `base` (double) -- the same where nothing is known of a row: its mean over the rows of training, as the trees saw them
    - `contributions` (array of double) -- what knowing each feature adds; with `base` they add up to `output`, to 1e-9

    The trees are broadcast once; each task makes an explainer for a class when it meets the first row of it.

    Parameters
    ----------
    told : DataFrame
        Rows with the model's features and its `prediction`.
    labels : iterable of int
        Predictions that occur; only their trees travel.

    Raises
    ------
    ContractError
        In the task, if a feature is missing, or if contributions do not add up.
    """
    position = {label: place for place, label in enumerate(model.problem.labels)}
    trees = {label: model.trees_of(position[label]) for label in labels}
    context = told.sparkSession.sparkContext
    explaining = _explaining(context.broadcast(trees), broadcast_once(context, model.scorer), model.problem)
    return told.mapInArrow(explaining, T.StructType([*told.schema.fields, *_ADDED]))


def _explaining(
    trees: Any, scorer: Any, problem: Problem
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    features, labels = list(problem.features), np.array(problem.labels)

    def explain(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        explainers: dict[int, TreeShap] = {}
        for batch in batches:
            rows, prediction = matrix(batch, features), batch.column("prediction").to_numpy(zero_copy_only=False)
            outputs = np.take_along_axis(scorer.value.outputs(rows), np.searchsorted(labels, prediction)[:, None], axis=1)[:, 0]
            base, found = np.empty(len(rows)), np.empty(rows.shape)
            for label in np.unique(prediction).tolist():
                if label not in explainers:
                    explainers[label] = TreeShap(trees.value[label])
                explainer = explainers[label]
                own = prediction == label
                base[own], found[own] = explainer.base, explainer.contributions(rows[own])
            require_additive(found, base, outputs)
            offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * len(features))
            added = {
                "output": pa.array(outputs), "base": pa.array(base),
                "contributions": pa.ListArray.from_arrays(offsets, pa.array(found.ravel())),
            }
            yield pa.RecordBatch.from_pydict({name: batch.column(name) for name in batch.schema.names} | added)

    return explain


def require_additive(contributions: np.ndarray, base: np.ndarray, output: np.ndarray) -> None:
    """Refuse an explanation that is of something else than the verdict.

    Raises
    ------
    ContractError
        Telling the largest difference.
    """
    off = np.abs(contributions.sum(axis=1) + base - output)
    if not (off <= TOLERANCE * np.maximum(1.0, np.abs(output))).all():
        raise ContractError(f"contributions add up to something else than the model says, by up to {off.max():.3g}")


def _as_shap(tree: OutputTree) -> dict[str, np.ndarray]:
    left = np.where(tree.feature >= 0, np.arange(1, tree.feature.size + 1), -1)
    return {
        # Where a value that is missing would go; `matrix` lets none through.
        "children_left": left, "children_default": left, "children_right": tree.right, "features": tree.feature,
        # The package writes expectations into the values of inner nodes.
        "thresholds": tree.threshold, "values": tree.value[:, None].copy(), "node_sample_weight": tree.weight,
    }


@compiled
def _sum_up(right: np.ndarray, weight: np.ndarray, value: np.ndarray, uniform: np.ndarray) -> None:
    """Weights of inner nodes from their leaves', and whether all leaves below a node say the same; children come later."""
    for node in range(right.size - 1, -1, -1):
        if right[node] < 0:
            uniform[node] = True
        else:
            one, other = node + 1, right[node]
            weight[node] = weight[one] + weight[other]
            uniform[node] = uniform[one] and uniform[other] and value[one] == value[other]
            value[node] = value[one]


@compiled
def _reached(right: np.ndarray, uniform: np.ndarray) -> Any:
    """Whether the way from the root to a node meets no other node that is uniform."""
    reached = np.zeros(right.size, np.bool_)
    reached[0] = True
    for node in range(right.size):
        if reached[node] and not uniform[node]:
            reached[node + 1] = True
            reached[right[node]] = True
    return reached
