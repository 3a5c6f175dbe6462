"""A forest in MLlib's own layout on disk, as Spark 4.2 writes it; stock Spark loads it without our package."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from iomt_ids.models.histogram.forest import Forest, Shape, Tree

_FOREST = "org.apache.spark.ml.classification.RandomForestClassificationModel"
_TREE = "org.apache.spark.ml.classification.DecisionTreeClassificationModel"
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
    size = {"numFeatures": forest.features, "numClasses": forest.classes}
    metadata = _metadata(_FOREST, "RandomForestClassifier_histogram", shared | own, spark_version)
    _write_text(folder / "metadata", json.dumps(metadata | size | {"numTrees": len(forest.trees)}))
    trees = [json.dumps(_metadata(_TREE, f"dtc_{i}", shared, spark_version)) for i in range(len(forest.trees))]
    rows = [np.arange(len(trees), dtype=np.int32), trees, np.ones(len(trees))]
    _write_parquet(folder / "treesMetadata", [pa.table([pa.array(r) for r in rows], schema=_METADATA)])
    _write_parquet(folder / "data", [_table(index, tree) for index, tree in enumerate(forest.trees)])


def read_forest(folder: Path) -> Forest:
    """Read a forest that `write_forest` or MLlib itself has written."""
    metadata = _read_metadata(folder)
    files = sorted(str(path) for path in folder.glob("data/*.parquet"))
    nodes = pads.dataset(files).to_table().combine_chunks()
    tree, data = nodes["treeID"].to_numpy(), nodes["nodeData"].combine_chunks()
    order = np.lexsort((data.field("id").to_numpy(), tree))
    values = {name: data.field(name).to_numpy()[order] for name in ("gain", "leftChild", "rightChild")}
    counts = data.field("impurityStats").flatten().to_numpy().reshape(len(order), -1)[order]
    split = data.field("split")
    feature = split.field("featureIndex").to_numpy()[order]
    lists = split.field("leftCategoriesOrThreshold")
    threshold = np.zeros(len(order))
    inner = feature >= 0
    threshold[inner] = lists.flatten().to_numpy()[lists.offsets.to_numpy()[:-1][order][inner]]
    bounds = np.searchsorted(tree[order], np.arange(int(metadata["numTrees"]) + 1))
    trees = tuple(
        Tree(feature[a:b], threshold[a:b], values["rightChild"][a:b], counts[a:b].astype(np.int64), values["gain"][a:b])
        for a, b in itertools.pairwise(bounds)
    )
    return Forest(trees, int(metadata["numFeatures"]), int(metadata["numClasses"]))


def read_shape(folder: Path) -> tuple[Shape, int]:
    """What a saved forest was asked to be, and its seed."""
    metadata = _read_metadata(folder)
    params = metadata["defaultParamMap"] | metadata["paramMap"]
    names = "numTrees", "maxDepth", "maxBins", "featureSubsetStrategy", "minInstancesPerNode"
    return Shape(*[params[name] for name in names]), int(params["seed"])


def _read_metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(folder.glob("metadata/part-*")).read_text(encoding="utf-8"))
    return found


def _metadata(kind: str, uid: str, params: dict[str, Any], version: str) -> dict[str, Any]:
    # The same forest, the same bytes: no time of writing. MLlib reads the number and does nothing with it.
    return {
        "class": kind, "timestamp": 0, "sparkVersion": version, "uid": uid, "paramMap": params,
        "defaultParamMap": {"impurity": "gini", "leafCol": "", "rawPredictionCol": "rawPrediction"},
    }


def _table(index: int, tree: Tree) -> pa.Table:
    nodes, classes = tree.counts.shape
    inner = tree.feature >= 0
    left = np.where(inner, np.arange(1, nodes + 1), -1).astype(np.int32)
    counts = tree.counts.astype(np.float64)
    total = counts.sum(axis=1)
    impurity = 1.0 - (counts**2).sum(axis=1) / total**2
    starts = np.concatenate([[0], np.cumsum(inner)]).astype(np.int32)
    thresholds = pa.ListArray.from_arrays(starts, pa.array(tree.threshold[inner]), type=_DOUBLES)
    whole = pa.array(np.full(nodes, -1, np.int32))
    split = pa.StructArray.from_arrays([pa.array(tree.feature.astype(np.int32)), thresholds, whole], fields=list(_SPLIT))
    stats = pa.ListArray.from_arrays(
        np.arange(0, counts.size + 1, classes, dtype=np.int32), pa.array(counts.ravel()), type=_DOUBLES
    )
    columns = [
        np.arange(nodes, dtype=np.int32), counts.argmax(axis=1).astype(np.float64), impurity, stats,
        tree.counts.sum(axis=1), tree.gain, left, tree.right.astype(np.int32), split,
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
