"""Rows with defaults: a test names only what it is about."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from iomt_ids.contract.attacks import ATTACKS
from iomt_ids.contract.flows import FEATURE_SETS, columns_of, feature_names, source_header
from iomt_ids.contract.problem import Problem, Scaling
from iomt_ids.contract.tables import BRONZE, FEATURES, copies_column
from iomt_ids.runtime.config import load_config
from iomt_ids.runtime.tables import Warehouse
from jobs import ingest_flows

ROOT = Path(__file__).resolve().parents[1]
_BY_NAME = {attack.name: attack for attack in ATTACKS}


def bronze_row(**values: Any) -> dict[str, Any]:
    """One row of `bronze.flows`, release v1, a benign one of the train split unless said otherwise."""
    attack = _BY_NAME[values.get("attack", "Benign")]
    row: dict[str, Any] = {
        "source_file": "WiFI_and_MQTT/attacks/csv/train/Benign_train.pcap.csv", "source_line": 2, "release": "v1",
        "protocol": attack.protocol, "device": None, "attack": attack.name, "split": "train", "category": attack.category,
    }
    row |= dict.fromkeys((c.name for c in columns_of("v1")), 1.0)
    return {name: values.get(name, row.get(name)) for name in BRONZE.fieldNames()}


def bronze(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Rows of `bronze.flows`; every one stands on a line of its own."""
    numbered = [bronze_row(**{"source_line": line, **row}) for line, row in enumerate(rows, start=2)]
    return spark.createDataFrame([tuple(row[n] for n in BRONZE.fieldNames()) for row in numbered], BRONZE)


def gold(
    spark: SparkSession, attacks: Sequence[str], *, rows: int = 60, split: str = "train", seed: int = 0, gap: float = 4.0
) -> DataFrame:
    """Rows of `gold.features` in which every class sits `gap` apart from the next, with normal noise of width 1.

    Classes differ in three features, all others are noise. They lie around zero, where logarithms keep them apart.
    """
    draw = np.random.default_rng(seed)
    made = []
    for place, name in enumerate(attacks):
        attack = _BY_NAME[name]
        for i in range(rows):
            noise = dict(zip(feature_names("v1", "all"), draw.normal(size=45), strict=True))
            for axis, feature in enumerate(("ttl_mean", "length_mean_bytes", "flow_rate_per_s")):
                noise[feature] += gap * (place - (len(attacks) - 1) / 2) * (axis + 1)
            labels = {
                "flow_id": int(draw.integers(1 << 60)), "attack_id": attack.id,
                "category_id": ("Benign", "Spoofing", "Recon", "MQTT", "DoS", "DDoS").index(attack.category),
                "binary_id": int(attack.category != "Benign"), "has_sentinel_iat": False,
                "past_windows": 0, "source_split": "test" if split == "test" else "train", "split_scheme": "official",
            } | dict.fromkeys(map(copies_column, FEATURE_SETS), 1)
            row = bronze_row(attack=name, split=split, source_line=i + 2, **{k: float(v) for k, v in noise.items()}) | labels
            made.append(tuple(row.get(n) for n in FEATURES.fieldNames()))
    return spark.createDataFrame(made, FEATURES)


def problem(task: str, labels: Sequence[int], feature_set: str = "leak_free") -> Problem:
    """A problem over the features of release v1, scaled by nothing."""
    features = feature_names("v1", feature_set)
    return Problem(task, features, feature_set, tuple(labels), tuple(Scaling(f, 0.0, 1.0) for f in features))


def ingested(spark: SparkSession, raw: Path, out: Path, *settings: str) -> Warehouse:
    """The tables that `ingest_flows` makes of a folder."""
    config = load_config(ROOT / "conf" / "local.yaml", [f"data.raw={raw}", f"output.folder={out}", *settings])
    ingest_flows.run(spark, config)
    return Warehouse.of(config)


def write_capture(folder: Path, path: str, rows: int, *, release: str = "v1", value: str = "0.5") -> Path:
    """A file in the official layout with rows that are all the same."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    header = source_header(release)
    target.write_text("\n".join([",".join(header), *[",".join([value] * len(header))] * rows]) + "\n", encoding="utf-8")
    return target
