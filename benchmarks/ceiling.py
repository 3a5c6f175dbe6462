"""Why scores end where they do: fewer rows, fewer columns, other scales, the windows before, and what hides ARP spoofing.

    PYTHONPATH=lib:. python benchmarks/ceiling.py DATA [rows] [columns] [scales] [past] [spoofing]

Reads captures of release v1 in the official layout into arrays, without Spark, and grows our own trees on them: forests of 20
trees and boosted trees, otherwise with the defaults. Prints one JSON line a measurement. `f1_macro` is over the classes
that occur, `low` and `high` are its 95 % interval over rows (1,000 resamples). ``on`` says what is scored: ``test`` is the
official test files, learnt from train files; ``ends`` is the last 15 % of every train capture, learnt from the first 85 %, so that
nothing there owes anything to test rows. Of the rows learnt from, 15 % of the distinct vectors only end the rounds of boosting.

- rows: nested parts of the train rows, drawn with three seeds, and the last rows of each capture, which are nearest to the test
  rows. ``peeked`` has learnt from a random half of the test rows as well and is scored on the other half: what it gains is what
  rows of the same minutes are worth, and no detector on another day has them.
- columns: what running counters of flows, and two leaks that no single column shows, are worth. `length_sum_bytes` over
  `length_mean_bytes` is close to the fill of a buffer; and fractions of windows of ten packets lie on tenths, those of a hundred on
  hundredths.
- scales: logarithms and robust centres, for a linear model; trees see an order only.
- past: means, spreads and differences of the windows before a row in its capture.
- spoofing: how many windows of the attack hold an ARP packet at all, and whether the others can be told.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import RobustScaler, StandardScaler

from iomt_ids.contract.attacks import ATTACKS, attack_of, class_names, labels_of_attacks
from iomt_ids.contract.flows import FLOW_COLUMNS, feature_names
from iomt_ids.evaluate.bootstrap import f1_averages, f1_intervals, resampled_rows
from iomt_ids.models.gradient_boosted import Params as BoostParams
from iomt_ids.models.histogram.bins import bin_rows
from iomt_ids.models.histogram.boost import boost
from iomt_ids.models.histogram.forest import Shape, grow_threaded
from iomt_ids.models.histogram.order import bin_all, side_by_side
from iomt_ids.models.histogram.score import BoostingScorer, ForestScorer
from iomt_ids.models.random_forest import Params as ForestParams
from iomt_ids.prepare.past import past_of

# A hundred iterations are what is compared.
warnings.simplefilter("ignore", ConvergenceWarning)
_THREADS, _SEED, _RESAMPLES, _TREES = 2, 7, 1000, 20
_FRACTIONS, _DRAWS = (1 / 32, 1 / 8, 1 / 2, 1.0), (1, 2, 3)
_EARLY, _HELD_OUT = 0.85, 0.15
_NAMES = feature_names("v1", "leak_free")
_COUNTERS = tuple(n for n in _NAMES if n.startswith("flow_"))
_SPOOFING, _BENIGN = next(a.id for a in ATTACKS if a.category == "Spoofing"), 0


@dataclass(frozen=True)
class Rows:
    """Rows in the order of capture: features, attack ids, and what says where each stands."""

    values: np.ndarray
    attack: np.ndarray
    is_test: np.ndarray
    starts: np.ndarray
    place: np.ndarray

    def labels(self, task: str) -> np.ndarray:
        """The label index of each row."""
        return np.array(labels_of_attacks(task))[self.attack]

    def sides(self, on: str) -> tuple[np.ndarray, np.ndarray]:
        """Which rows are learnt from, and which are scored."""
        if on == "test":
            return ~self.is_test, self.is_test
        return ~self.is_test & (self.place < _EARLY), ~self.is_test & (self.place >= _EARLY)

    def with_values(self, values: np.ndarray) -> Rows:
        """The same rows with other columns."""
        return replace(self, values=values)


def read_rows(folder: Path) -> Rows:
    """Train and test captures of the official layout."""
    sources = [next(c.v1 for c in FLOW_COLUMNS if c.name == name) for name in _NAMES]
    parts = []
    for file in sorted(folder.glob("*/attacks/csv/*/*.csv")):
        name, _, side = file.name.removesuffix(".pcap.csv").rpartition("_")
        attack, table = attack_of(name), pacsv.read_csv(file)
        if attack is None:
            raise SystemExit(f"{file}: no attack is called {name}")
        values = np.column_stack([table[source].to_numpy().astype(float) for source in sources])
        n = len(values)
        parts.append((values, np.full(n, attack.id), np.full(n, side == "test"), np.arange(n) == 0, np.arange(n) / n))
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def say(part: str, **line: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps({"bench": "ceiling", "part": part, **line}) + "\n")
    sys.stdout.flush()


def marks(task: str, true: np.ndarray, told: np.ndarray) -> dict[str, Any]:
    """Macro-F1 with its interval, and F1 of spoofing."""
    classes = len(class_names(task))
    matrix = np.bincount(true * classes + told, minlength=classes * classes).reshape(1, classes, classes)
    ends = f1_intervals(resampled_rows(matrix[0], _RESAMPLES, _SEED))
    found = {"f1_macro": f1_averages(matrix)["f1_macro"][0], "low": ends["f1_macro_low"], "high": ends["f1_macro_high"]}
    if task == "attack":
        hits, rows, said = matrix[0, _SPOOFING, _SPOOFING], matrix[0, _SPOOFING].sum(), matrix[0, :, _SPOOFING].sum()
        found["f1_spoofing"] = 2 * hits / max(rows + said, 1)
    return {name: round(float(value), 4) for name, value in found.items()}


def forest(values: np.ndarray, dense: np.ndarray, classes: int) -> ForestScorer:
    """Ours, of fewer trees."""
    p = ForestParams()
    shape = Shape(_TREES, p.depth, p.bins, p.features_per_node, p.rows_per_leaf)
    return ForestScorer(grow_threaded(bin_all(values, dense, classes, p.bins, _THREADS), shape, _SEED, _THREADS))


def boosted(values: np.ndarray, dense: np.ndarray, classes: int) -> BoostingScorer:
    """Ours; the rounds end by distinct vectors that were held out."""
    p = BoostParams()
    vector = np.unique(values, axis=0, return_inverse=True)[1].ravel()
    out = np.random.default_rng(_SEED).random(vector.max() + 1)[vector] < _HELD_OUT
    binned = bin_all(values[~out], dense[~out], classes, p.bins, _THREADS)
    columns, weights = bin_rows(values[out], binned.edges), np.ones(int(out.sum()), np.int64)
    unseen = side_by_side(columns, dense[out].astype(np.uint8), weights, binned.edges, classes)
    return BoostingScorer(boost(binned, p.shape, _SEED, threads=_THREADS, unseen=unseen)[0])


_GROWN: dict[str, Callable[[np.ndarray, np.ndarray, int], Any]] = {"forest": forest, "boosted": boosted}


def answers(detector: str, values: np.ndarray, label: np.ndarray, learnt: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Learn from some rows and answer on others, in label indices."""
    known, dense = np.unique(label[learnt], return_inverse=True)
    model = _GROWN[detector](np.ascontiguousarray(values[learnt]), dense, len(known))
    return known[model.probabilities(np.ascontiguousarray(values[scored]))[1]]


def measured(rows: Rows, detector: str, task: str, on: str) -> dict[str, Any]:
    """A line's worth of a detector on rows as they are."""
    label, (learnt, scored) = rows.labels(task), rows.sides(on)
    told = answers(detector, rows.values, label, learnt, scored)
    return {"detector": detector, "task": task, "on": on, **marks(task, label[scored], told)}


def by_rows(rows: Rows) -> None:
    """The learning curve."""
    for detector, task in (("forest", "attack"), ("forest", "binary"), ("boosted", "binary")):
        label, (learnt, scored) = rows.labels(task), rows.sides("test")
        where = np.flatnonzero(learnt)
        for fraction in _FRACTIONS:
            found = []
            for seed in _DRAWS if fraction < 1 else _DRAWS[:1]:
                # The same order for every fraction, so that a smaller part lies within the larger one.
                part = np.random.default_rng(seed).permutation(where)[: round(fraction * where.size)]
                found.append(marks(task, label[scored], answers(detector, rows.values, label, np.sort(part), scored)))
            middle = sorted(found, key=lambda m: m["f1_macro"])[len(found) // 2]
            say("rows", detector=detector, task=task, drawn="at random", fraction=fraction, **middle,
                of_draws=sorted(m["f1_macro"] for m in found))
        for fraction in _FRACTIONS[1:-1]:
            late = learnt & (rows.place >= 1 - fraction)
            told = answers(detector, rows.values, label, late, scored)
            say("rows", detector=detector, task=task, drawn="the last of each capture", fraction=fraction,
                **marks(task, label[scored], told))
        seen = np.random.default_rng(_SEED).random(learnt.size) < 0.5
        told = answers(detector, rows.values, label, learnt | seen, scored & ~seen)
        say("rows", detector=detector, task=task, drawn="peeked", **marks(task, label[scored & ~seen], told))


def without_grid(rows: Rows) -> Rows:
    """Fractions of longer windows moved to one of the tenths beside them, by chance in proportion: the same on average."""
    places = [i for i, name in enumerate(_NAMES) if name.endswith("_fraction")]
    values, dice = rows.values.copy(), np.random.default_rng(_SEED)
    tenths = np.round(10 * values[:, places], 6)
    values[:, places] = np.floor(tenths + dice.random(tenths.shape) * (tenths % 1 > 0)) / 10
    return rows.with_values(values)


def without(rows: Rows, *names: str) -> Rows:
    """The rows without some columns."""
    return rows.with_values(rows.values[:, [i for i, name in enumerate(_NAMES) if name not in names]])


def column_sets(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """What is learnt from, by name."""
    total, mean = (rows.values[:, _NAMES.index(name)] for name in ("length_sum_bytes", "length_mean_bytes"))
    yield "leak-free", rows
    yield "without length_sum_bytes", without(rows, "length_sum_bytes")
    yield "fractions on tenths", without_grid(rows)
    yield "both", without(without_grid(rows), "length_sum_bytes")
    yield "without counters of flows", without(rows, *_COUNTERS)
    yield "sum over mean of lengths alone", rows.with_values((total / np.maximum(mean, 1e-9))[:, None])


def by_columns(rows: Rows) -> None:
    """What is lost without columns, and where a counter stands at both ends of each file."""
    counter = rows.values[:, _NAMES.index("flow_header_bytes")]
    for part in np.split(np.arange(len(counter)), np.flatnonzero(rows.starts)[1:]):
        few = max(5, len(part) // 20)
        say("columns", capture=ATTACKS[rows.attack[part[0]]].name, is_test=bool(rows.is_test[part[0]]), rows=len(part),
            flow_header_bytes=[float(np.median(counter[end])) for end in (part[:few], part[-few:])])
    for columns, changed in column_sets(rows):
        for task in ("attack", "binary"):
            for on in ("ends", "test"):
                say("columns", columns=columns, **measured(changed, "forest", task, on))


def by_scales(rows: Rows) -> None:
    """A linear model on four scales, and how many answers of a forest change with a logarithm."""
    logs = np.sign(rows.values) * np.log1p(np.abs(rows.values))
    dice, label = np.random.default_rng(_SEED), rows.labels("attack")
    low, high = np.quantile(rows.values[~rows.is_test], (0.25, 0.75), axis=0)
    say("scales", columns=len(_NAMES), with_equal_quartiles=int((low == high).sum()))
    for on in ("ends", "test"):
        learnt, scored = rows.sides(on)
        part = dice.permutation(np.flatnonzero(learnt))[:20_000]
        for scale, values, scaler in (
            ("standard", rows.values, StandardScaler()), ("robust", rows.values, RobustScaler()),
            ("logarithm, standard", logs, StandardScaler()), ("logarithm, robust", logs, RobustScaler()),
        ):
            scaled = scaler.fit(values[learnt]).transform(values)
            model = LogisticRegression(max_iter=100).fit(scaled[part], label[part])
            say("scales", scale=scale, detector="logistic regression", task="attack", on=on,
                **marks("attack", label[scored], model.predict(scaled[scored])))
        same = answers("forest", rows.values, label, learnt, scored) == answers("forest", logs, label, learnt, scored)
        say("scales", scale="logarithm", detector="forest", task="attack", on=on, same_answers=round(float(same.mean()), 4))


def by_past(rows: Rows) -> None:
    """What windows before a row add, on the ends of train captures, where settings may be chosen."""
    n = rows.values.shape[1]
    for windows in (1, 4, 19):
        told = past_of(rows.values, rows.starts, windows)
        change = rows.values - told[:, :n]
        for what, values in (("differences", [rows.values, change]), ("means and spreads", [rows.values, told]),
                             ("all three", [rows.values, told, change])):
            say("past", windows=windows, added=what,
                **measured(rows.with_values(np.concatenate(values, axis=1)), "forest", "attack", "ends"))


def by_spoofing(rows: Rows) -> None:
    """What there is to see of ARP spoofing."""
    arp = rows.values[:, _NAMES.index("arp_fraction")] > 0
    learnt, scored = rows.sides("test")
    for name, own in (("ARP_Spoofing", rows.attack == _SPOOFING), ("Benign", rows.attack == _BENIGN)):
        say("spoofing", windows_of=name, rows=int((own & scored).sum()), with_arp_packet=round(float(arp[own & scored].mean()), 4))
    told = answers("forest", rows.values, rows.attack, learnt, scored)
    for name, part in (("with an ARP packet", arp[scored]), ("without", ~arp[scored])):
        own = part & (rows.attack[scored] == _SPOOFING)
        say("spoofing", windows=name, rows=int(own.sum()), recall=round(float((told[own] == _SPOOFING).mean()), 4))
    two = np.isin(rows.attack, (_SPOOFING, _BENIGN))
    past = np.concatenate([rows.values, past_of(rows.values, rows.starts, 19)], axis=1)
    for name, values in (("a window", rows.values), ("and 19 before it", past)):
        model = forest(values[learnt & two], (rows.attack[learnt & two] == _SPOOFING).astype(int), 2)
        alarm = model.probabilities(np.ascontiguousarray(values[scored & two]))[0][:, 1]
        say("spoofing", against="Benign alone", seen=name, auroc=round(
            float(roc_auc_score(rows.attack[scored & two] == _SPOOFING, alarm)), 4))


_PARTS = {"rows": by_rows, "columns": by_columns, "scales": by_scales, "past": by_past, "spoofing": by_spoofing}


def main(data: str, parts: list[str]) -> int:
    """Measure and print."""
    rows = read_rows(Path(data))
    say("data", path=data, train=int((~rows.is_test).sum()), test=int(rows.is_test.sum()), columns=len(_NAMES))
    for part in parts or _PARTS:
        _PARTS[part](rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
