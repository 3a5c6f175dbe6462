"""`base.yaml`, then `<place>.yaml`, then `--set key=value`, into frozen dataclasses.

The YAML is the one place for default values, these classes the one place for names and types.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from iomt_ids.contract.attacks import CATEGORIES, TASKS
from iomt_ids.contract.errors import ConfigError, raise_all
from iomt_ids.contract.flows import FEATURE_SETS, RELEASES
from iomt_ids.contract.problem import DUPLICATES
from iomt_ids.contract.splits import SCHEMES, Scheme
from iomt_ids.distributed.work import LAUNCHERS

DEMO = "demo"


@dataclass(frozen=True)
class DataConfig:
    """Where the raw files are."""

    raw: str
    source: str
    demo_rows: int

    @property
    def is_demo(self) -> bool:
        """Whether the rows are the embedded synthetic ones."""
        return self.raw == DEMO

    @property
    def name(self) -> str:
        """A short name of the data, unique for its folder."""
        if self.is_demo:
            return DEMO
        folder = Path(self.raw).resolve()
        return f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class OutputConfig:
    """Where tables, models and reports go, and in which format."""

    folder: str
    format: str


@dataclass(frozen=True)
class IngestConfig:
    """How files are read, and what is too bad to be taken in."""

    block_bytes: int
    unpacked_bytes: int
    max_rejected_fraction: float
    replace: bool


@dataclass(frozen=True)
class SplitConfig:
    """How rows are cut into train and test, and how the validation split is taken from the train split."""

    scheme: str
    test_fraction: float
    validation_fraction: float
    salt: str


@dataclass(frozen=True)
class FeaturesConfig:
    """Which columns are features."""

    set: str
    past_windows: int
    release: str


@dataclass(frozen=True)
class TrainConfig:
    """Which detectors learn which tasks, from which of equal rows, on what, what ends a fit, and what is done about deaths."""

    duplicates: str
    ends_by: str
    launcher: str
    resume: bool
    restarts: int
    replacement_wait_s: float
    ranks_at_least: int | None
    checkpoint_steps: int
    detectors: dict[str, list[str]]
    compare_all_features: dict[str, list[str]]
    compare_past: dict[str, list[str]]


@dataclass(frozen=True)
class TuneConfig:
    """Whether a detector's parameters are chosen before it is fitted, and how."""

    enabled: bool
    candidates: int
    folds: int
    keep: float


@dataclass(frozen=True)
class CostsConfig:
    """What errors cost, in units of one false alarm."""

    false_alarm: float
    mistaken: float
    missed: dict[str, float]


@dataclass(frozen=True)
class EvaluateConfig:
    """Which run is judged, how its uncertainty is estimated, and what its operating points are picked for."""

    run: str
    bootstrap: int
    false_alarms_per_million: int
    verdict_error: float
    stable_windows: int
    costs: CostsConfig


@dataclass(frozen=True)
class UnknownConfig:
    """Who is asked about attacks that it has not learnt, and which these are."""

    detectors: list[str]
    hold_out: list[str]


@dataclass(frozen=True)
class ExplainConfig:
    """How many alerts are explained, by how many features, and how often a feature is shuffled."""

    rows: int
    features: int
    repeats: int


@dataclass(frozen=True)
class ServeConfig:
    """Which model is served and when a new one replaces it."""

    task: str
    home: str | None
    tolerance: float


@dataclass(frozen=True)
class Config:
    """The resolved configuration of one job."""

    seed: int
    data: DataConfig
    output: OutputConfig
    ingest: IngestConfig
    split: SplitConfig
    features: FeaturesConfig
    train: TrainConfig
    tune: TuneConfig
    evaluate: EvaluateConfig
    unknown: UnknownConfig
    explain: ExplainConfig
    serve: ServeConfig
    models: dict[str, dict[str, Any]]

    @property
    def home(self) -> Path:
        """The folder of this data's tables and runs."""
        return Path(self.output.folder) / self.data.name

    def split_scheme(self, name: str | None = None) -> Scheme:
        """The configured way to cut rows into train and test, or another one with the same settings."""
        # No test row may tell of a train row in its past.
        return Scheme(name or self.split.scheme, self.split.test_fraction, self.features.past_windows, self.split.salt)

    def with_values(self, **sections: dict[str, Any]) -> Config:
        """A copy in which keys of some sections have other values."""
        changed = {name: dataclasses.replace(getattr(self, name), **keys) for name, keys in sections.items()}
        return dataclasses.replace(self, **changed)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for the run record."""
        return dataclasses.asdict(self)


def load_config(path: Path, assignments: Sequence[str] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : Path
        ``conf/<place>.yaml``; ``base.yaml`` beside it is read first.
    assignments : sequence of str
        ``key=value`` with dotted keys; the value is YAML.

    Raises
    ------
    ConfigError
        Naming at once every file that cannot be read, unknown key (with the nearest known one),
        value of a wrong type and impossible value.
    """
    problems: list[str] = []
    merged: dict[str, Any] = {}
    for source in (path.parent / "base.yaml", path):
        values = _read_yaml(source, problems)
        problems += [f"{source.name}: {p}" for p in unknown_keys(values, Config)]
        merged = _merge(merged, values)
    for assignment in assignments:
        _assign(merged, assignment, problems)
    raise_all(problems, ConfigError, "configuration")
    config = build(Config, merged, "", problems)
    raise_all(problems, ConfigError, "configuration")
    raise_all(_impossible_values(config), ConfigError, "configuration")
    return config


def detector_params(detector: str, kind: type, config: Config) -> Any:
    """A detector's parameters: the defaults of its dataclass under ``models.<detector>``.

    Raises
    ------
    ConfigError
        Naming every unknown parameter (with the nearest known one) and every wrong type.
    """
    problems: list[str] = []
    params = build(kind, config.models.get(detector, {}), f"models.{detector}.", problems)
    raise_all(problems, ConfigError, "configuration")
    return params


def build(kind: type, values: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    """Make a dataclass from plain values, adding to `problems` what does not fit.

    Parameters
    ----------
    kind : type
        A dataclass; fields without a default must be present.
    values : mapping
        Field names to plain values.
    prefix : str
        The dotted key of the dataclass itself, for messages.
    problems : list of str
        Extended in place; if it grew, the result is None.
    """
    hints = typing.get_type_hints(kind)
    made = {}
    before = len(problems)
    for field in dataclasses.fields(kind):
        key = f"{prefix}{field.name}"
        if field.name not in values:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                problems.append(f"key '{key}' has no value")
            continue
        made[field.name] = _convert(values[field.name], hints[field.name], key, problems)
    problems += [f"{p}" for p in unknown_keys(values, kind, prefix)] if prefix else []
    return kind(**made) if len(problems) == before else None


def unknown_keys(
    values: Mapping[str, Any], kind: type, prefix: str = "", known: Sequence[str] | None = None
) -> list[str]:
    """A sentence for each key that the dataclass does not have, with the nearest key there is."""
    hints = typing.get_type_hints(kind)
    known = known or sorted(_known_keys(kind, prefix))
    found = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            near = max(known, key=lambda k: _likeness(key, k))
            found.append(f"unknown configuration key '{key}'; did you mean '{near}'?")
        elif dataclasses.is_dataclass(hints[name]) and isinstance(value, Mapping):
            found += unknown_keys(value, typing.cast(type, hints[name]), f"{key}.", known)
    return found


def _likeness(key: str, known: str) -> float:
    # A typo in the last word weighs as much as one in the whole key: 'train.sed' means 'seed'.
    whole = difflib.SequenceMatcher(None, key, known).ratio()
    last = difflib.SequenceMatcher(None, key.rpartition(".")[2], known.rpartition(".")[2]).ratio()
    return max(whole, last) + 0.01 * whole


def _known_keys(kind: type, prefix: str = "") -> Iterator[str]:
    for name, hint in typing.get_type_hints(kind).items():
        yield f"{prefix}{name}"
        if dataclasses.is_dataclass(hint):
            yield from _known_keys(typing.cast(type, hint), f"{prefix}{name}.")


def _read_yaml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"cannot read {path}: {error.strerror}")
        return {}
    except yaml.YAMLError as error:
        problems.append(f"{path} is not YAML: {error}")
        return {}
    if values is not None and not isinstance(values, dict):
        problems.append(f"{path}: wanted keys and values, found {type(values).__name__}")
        return {}
    return values or {}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _assign(values: dict[str, Any], assignment: str, problems: list[str]) -> None:
    key, equals, text = assignment.partition("=")
    if not equals:
        problems.append(f"--set {assignment}: wanted key=value")
        return
    parts = key.strip().split(".")
    nested: dict[str, Any] = {}
    leaf = nested
    for part in parts[:-1]:
        leaf = leaf.setdefault(part, {})
    try:
        leaf[parts[-1]] = yaml.safe_load(text)
    except yaml.YAMLError:
        leaf[parts[-1]] = text
    unknown = unknown_keys(nested, Config)
    problems += [f"--set: {p}" for p in unknown]
    target = values
    for part in parts[:-1]:
        inner = target.get(part)
        target[part] = dict(inner) if isinstance(inner, Mapping) else {}
        target = target[part]
    target[parts[-1]] = leaf[parts[-1]]


def _convert(value: Any, hint: Any, key: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return build(typing.cast(type, hint), value, f"{key}.", problems)
        problems.append(f"key '{key}' wants keys and values, not {value!r}")
        return None
    origin = typing.get_origin(hint) or hint
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(value, next(a for a in typing.get_args(hint) if a is not type(None)), key, problems)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    fits = isinstance(value, origin) and not (origin is int and isinstance(value, bool))
    if origin is dict and fits and typing.get_args(hint):
        inner = typing.get_args(hint)[1]
        return {str(k): v if inner is Any else _convert(v, inner, f"{key}.{k}", problems) for k, v in value.items()}
    if not fits:
        problems.append(f"key '{key}' wants {getattr(origin, '__name__', origin)}, not {value!r}")
    return value


def _impossible_values(config: Config) -> list[str]:
    costs = config.evaluate.costs
    checks = [
        (config.output.format in ("delta", "parquet"), f"output.format is {config.output.format!r}: delta or parquet"),
        (config.split.scheme in SCHEMES, f"split.scheme is {config.split.scheme!r}: {', '.join(SCHEMES)}"),
        (0 < config.split.test_fraction < 1, "split.test_fraction must lie between 0 and 1"),
        (0 < config.split.validation_fraction < 0.5, "split.validation_fraction must lie between 0 and 0.5"),
        (config.train.duplicates in DUPLICATES, f"train.duplicates is {config.train.duplicates!r}: {' or '.join(DUPLICATES)}"),
        (config.train.ends_by in ("vectors", "parts"), f"train.ends_by is {config.train.ends_by!r}: vectors or parts"),
        (config.train.launcher in LAUNCHERS, f"train.launcher is {config.train.launcher!r}: {' or '.join(LAUNCHERS)}"),
        (config.train.restarts >= 0, "train.restarts must not be negative"),
        (config.train.replacement_wait_s >= 0, "train.replacement_wait_s must not be negative"),
        (config.train.checkpoint_steps >= 1, "train.checkpoint_steps must be at least 1"),
        (config.train.ranks_at_least is None or config.train.ranks_at_least >= 1, "train.ranks_at_least must be at least 1"),
        (config.features.set in FEATURE_SETS, f"features.set is {config.features.set!r}: {' or '.join(FEATURE_SETS)}"),
        (config.features.release in (*RELEASES, "auto"),
         f"features.release is {config.features.release!r}: auto, {' or '.join(RELEASES)}"),
        (config.features.past_windows >= 1, "features.past_windows must be at least 1"),
        (config.tune.candidates >= 2, "tune.candidates must be at least 2"),
        (config.tune.folds >= 2, "tune.folds must be at least 2"),
        (0 < config.tune.keep <= 1, "tune.keep must lie between 0 and 1"),
        (config.serve.task in TASKS, f"serve.task is {config.serve.task!r}: one of {', '.join(TASKS)}"),
        (config.ingest.block_bytes >= 4096, "ingest.block_bytes must be at least 4096"),
        (config.ingest.unpacked_bytes >= 1, "ingest.unpacked_bytes must be at least 1"),
        (0 <= config.ingest.max_rejected_fraction <= 1, "ingest.max_rejected_fraction must lie between 0 and 1"),
        (config.data.demo_rows >= 10_000, "data.demo_rows must be at least 10000"),
        (config.evaluate.bootstrap >= 100, "evaluate.bootstrap must be at least 100"),
        (0 < config.evaluate.false_alarms_per_million < 1_000_000,
         "evaluate.false_alarms_per_million must lie between 1 and 999999"),
        (0 < config.evaluate.verdict_error < 0.5, "evaluate.verdict_error must lie between 0 and 0.5"),
        (config.evaluate.stable_windows >= 1, "evaluate.stable_windows must be at least 1"),
        (costs.false_alarm >= 0, "evaluate.costs.false_alarm must not be negative"),
        (costs.mistaken >= 0, "evaluate.costs.mistaken must not be negative"),
        (all(cost >= 0 for cost in costs.missed.values()), "evaluate.costs.missed must not be negative"),
        (set(costs.missed) == set(CATEGORIES[1:]), f"evaluate.costs.missed wants each of {', '.join(CATEGORIES[1:])}"),
        (config.explain.rows >= 1, "explain.rows must be at least 1"),
        (config.explain.features >= 1, "explain.features must be at least 1"),
        (config.explain.repeats >= 0, "explain.repeats must not be negative"),
        (config.serve.tolerance >= 0, "serve.tolerance must not be negative"),
    ]
    problems = [sentence for holds, sentence in checks if not holds]
    for section in ("detectors", "compare_all_features", "compare_past"):
        for detector, tasks in getattr(config.train, section).items():
            problems += [
                f"train.{section}.{detector} names task {task!r}: one of {', '.join(TASKS)}"
                for task in tasks if task not in TASKS
            ]
    return problems
