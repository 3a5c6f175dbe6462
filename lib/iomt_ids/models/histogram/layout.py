"""Trees in MLlib's own layout on disk, as Spark 4.2 writes it; stock Spark loads them without our package."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from iomt_ids.models.histogram.boost import Boosting, RegressionTree
from iomt_ids.models.histogram.forest import Forest, Shape, Tree

_FOREST = "org.apache.spark.ml.classification.RandomForestClassificationModel"
_BOOSTING = "org.apache.spark.ml.classification.GBTClassificationModel"
_TREE = "org.apache.spark.ml.classification.DecisionTreeClassificationModel"
_REGRESSION_TREE = "org.apache.spark.ml.regression.DecisionTreeRegressionModel"
ASKED = "maxIter", "maxDepth", "maxBins", "stepSize", "seed"
_DOUBLES = pa.list_(pa.field("element", pa.float64(), nullable=False))


def _needed(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_SPLIT = pa.struct([
    _needed("featureIndex", pa.int32()), pa.field("leftCategoriesOrThreshold", _DOUBLES), _needed("numCategories", pa.int32()),
])
_NODE = pa.struct([
    _needed("id", pa.int32()), _needed("prediction", pa.float64()), _needed("impurity", pa.float64()),
    pa.field("impurityStats", _DOUBLES), _needed("rawCount", pa.int64()), _needed("gain", pa.float64()),
    _needed("leftChild", pa.int32()), _needed("rightChild", pa.int32()), pa.field("split", _SPLIT),
])
_DATA = pa.schema([_needed("treeID", pa.int32()), pa.field("nodeData", _NODE)])
_METADATA = pa.schema([_needed("_1", pa.int32()), pa.field("_2", pa.string()), _needed("_3", pa.float64())])


def write_forest(forest: Forest, folder: Path, *, shape: Shape, seed: int, columns: dict[str, str], spark_version: str) -> None:
    """Write a forest so that ``RandomForestClassificationModel.load`` reads it.

    Parameters
    ----------
    folder : Path
        Made here.
    shape : Shape
        What the forest was asked to be; kept as MLlib's parameters.
    columns : dict of str to str
        MLlib's column parameters, e.g. ``{"featuresCol": "_vector"}``.
    """
    shared = columns | {"maxDepth": shape.depth, "maxBins": shape.bins, "minInstancesPerNode": shape.rows_per_leaf, "seed": seed}
    own = {"numTrees": len(forest.trees), "featureSubsetStrategy": shape.features_per_node}
    metadata = _metadata(_FOREST, "RandomForestClassifier_histogram", shared | own, "gini", spark_version)
    metadata |= {"numFeatures": forest.features, "numClasses": forest.classes}
    about = [_metadata(_TREE, f"dtc_{i}", shared, "gini", spark_version) for i in range(len(forest.trees))]
    _write_trees(folder, metadata, forest.trees, np.ones(len(forest.trees)), about)


def read_forest(folder: Path) -> Forest:
    """Read a forest that `write_forest` or MLlib itself has written."""
    metadata = _read_metadata(folder)
    trees = [
        Tree(n["feature"], n["threshold"], n["right"], n["stats"].astype(np.int64), n["gain"])
        for n in _read_nodes(folder, metadata)
    ]
    return Forest(tuple(trees), int(metadata["numFeatures"]), int(metadata["numClasses"]))


def read_shape(folder: Path) -> tuple[Shape, int]:
    """What a saved forest was asked to be, and its seed."""
    metadata = _read_metadata(folder)
    params = metadata["defaultParamMap"] | metadata["paramMap"]
    names = "numTrees", "maxDepth", "maxBins", "featureSubsetStrategy", "minInstancesPerNode"
    return Shape(*[params[name] for name in names]), int(params["seed"])


def write_boosting(
    boosting: Boosting, folder: Path, *, asked: dict[str, Any], columns: dict[str, str], spark_version: str
) -> None:
    """Write each model into a folder of its own, ``0``, ``1`` and so on; ``GBTClassificationModel.load`` reads them.

    Parameters
    ----------
    folder : Path
        Exists; the models' folders are made here.
    asked : dict
        What boosting was asked to be, by the names in `ASKED` of MLlib's parameters.
    columns : dict of str to str
        MLlib's column parameters, e.g. ``{"featuresCol": "_vector"}``.
    """
    of_tree = {name: asked[name] for name in ("maxDepth", "maxBins", "seed")}
    of_tree |= {name: value for name, value in columns.items() if name != "probabilityCol"}
    own = columns | asked | {"lossType": "logistic"}
    for index, (trees, weights) in enumerate(zip(boosting.trees, boosting.weights, strict=True)):
        metadata = _metadata(_BOOSTING, f"GBTClassifier_histogram_{index}", own, "variance", spark_version)
        about = [_metadata(_REGRESSION_TREE, f"dtr_{i}", of_tree, "variance", spark_version) for i in range(len(trees))]
        _write_trees(folder / str(index), metadata | {"numFeatures": boosting.features}, trees, weights, about)


def read_boosting(folders: Sequence[Path]) -> Boosting:
    """Read models that `write_boosting` or MLlib itself has written, one a folder."""
    models, weights = [], []
    for folder in folders:
        metadata = _read_metadata(folder)
        models.append(tuple(
            RegressionTree(*[n[name] for name in ("feature", "threshold", "right", "stats", "gain", "prediction")])
            for n in _read_nodes(folder, metadata)
        ))
        about = pads.dataset(sorted(str(path) for path in folder.glob("treesMetadata/*.parquet"))).to_table()
        weights.append(about["_3"].to_numpy()[np.argsort(about["_1"].to_numpy())])
    return Boosting(tuple(models), tuple(weights), int(metadata["numFeatures"]))


def read_asked(folder: Path) -> dict[str, Any]:
    """What a saved boosted model was asked to be."""
    metadata = _read_metadata(folder)
    params = metadata["defaultParamMap"] | metadata["paramMap"]
    return {name: params[name] for name in ASKED}


def _read_nodes(folder: Path, metadata: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """The nodes of each tree, by the names of our trees' attributes."""
    files = sorted(str(path) for path in folder.glob("data/*.parquet"))
    nodes = pads.dataset(files).to_table().combine_chunks()
    tree, data = nodes["treeID"].to_numpy(), nodes["nodeData"].combine_chunks()
    order = np.lexsort((data.field("id").to_numpy(), tree))
    found = {
        "gain": data.field("gain").to_numpy()[order], "right": data.field("rightChild").to_numpy()[order],
        "stats": data.field("impurityStats").flatten().to_numpy().reshape(len(order), -1)[order],
        "prediction": data.field("prediction").to_numpy()[order],
        "feature": data.field("split").field("featureIndex").to_numpy()[order], "threshold": np.zeros(len(order)),
    }
    lists, inner = data.field("split").field("leftCategoriesOrThreshold"), found["feature"] >= 0
    found["threshold"][inner] = lists.flatten().to_numpy()[lists.offsets.to_numpy()[:-1][order][inner]]
    bounds = np.searchsorted(tree[order], np.arange(int(metadata["numTrees"]) + 1))
    return [{name: values[a:b] for name, values in found.items()} for a, b in itertools.pairwise(bounds)]


def _read_metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(folder.glob("metadata/part-*")).read_text(encoding="utf-8"))
    return found


def _metadata(kind: str, uid: str, params: dict[str, Any], impurity: str, version: str) -> dict[str, Any]:
    # The same forest, the same bytes: no time of writing. MLlib reads the number and does nothing with it.
    return {
        "class": kind, "timestamp": 0, "sparkVersion": version, "uid": uid, "paramMap": params,
        "defaultParamMap": {"impurity": impurity, "leafCol": ""}
        | ({} if kind == _REGRESSION_TREE else {"rawPredictionCol": "rawPrediction"}),
    }


def _write_trees(
    folder: Path, metadata: dict[str, Any], trees: Sequence[Any], weights: np.ndarray, about: Sequence[dict[str, Any]]
) -> None:
    _write_text(folder / "metadata", json.dumps(metadata | {"numTrees": len(trees)}))
    rows = [np.arange(len(trees), dtype=np.int32), [json.dumps(a) for a in about], weights]
    _write_parquet(folder / "treesMetadata", [pa.table([pa.array(r) for r in rows], schema=_METADATA)])
    _write_parquet(folder / "data", [_table(index, tree) for index, tree in enumerate(trees)])


def _table(index: int, tree: Any) -> pa.Table:
    nodes, width = tree.stats.shape
    inner = tree.feature >= 0
    left = np.where(inner, np.arange(1, nodes + 1), -1).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(inner)]).astype(np.int32)
    thresholds = pa.ListArray.from_arrays(starts, pa.array(tree.threshold[inner]), type=_DOUBLES)
    whole = pa.array(np.full(nodes, -1, np.int32))
    split = pa.StructArray.from_arrays([pa.array(tree.feature.astype(np.int32)), thresholds, whole], fields=list(_SPLIT))
    stats = pa.ListArray.from_arrays(
        np.arange(0, nodes * width + 1, width, dtype=np.int32), pa.array(tree.stats.ravel()), type=_DOUBLES
    )
    columns = [
        np.arange(nodes, dtype=np.int32), tree.prediction, tree.impurity, stats, tree.rows, tree.gain, left,
        tree.right.astype(np.int32), split,
    ]
    data = pa.StructArray.from_arrays([c if isinstance(c, pa.Array) else pa.array(c) for c in columns], fields=list(_NODE))
    return pa.table([pa.array(np.full(nodes, index, np.int32)), data], schema=_DATA)


def _write_text(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "part-00000").write_text(text + "\n", encoding="utf-8")
    (folder / "_SUCCESS").touch()


def _write_parquet(folder: Path, tables: list[pa.Table]) -> None:
    folder.mkdir(parents=True)
    with pq.ParquetWriter(folder / "part-00000.snappy.parquet", tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    (folder / "_SUCCESS").touch()
