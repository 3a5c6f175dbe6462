"""What a detector makes of an attack that it has not learnt: does anything alert, what is it taken for, does it look new.

All of it is arithmetic on counts of distinct vectors, see `score_counts` and `hierarchy_counts`. Thresholds and p-values come from
validation rows of what is known; nothing sees the attack that is held out before the test.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, class_names
from iomt_ids.contract.errors import ConfigError, raise_all
from iomt_ids.evaluate.conformal import p_values
from iomt_ids.evaluate.curves import at_or_above
from iomt_ids.evaluate.hierarchy import answer_cells, choose_places
from iomt_ids.evaluate.hierarchy_counts import HierarchyCounts
from iomt_ids.evaluate.intervals import clopper_pearson
from iomt_ids.evaluate.operating import choose_threshold
from iomt_ids.evaluate.score_counts import UNSEEN, ScoreCounts

# A row is called new where a row of what is known is as strange with at most this chance.
NOVELTY_ERROR = 0.05
_NORMAL_95 = 1.959963984540054
_MOST_NAMED = 3
_VALIDATION, _TEST = UNSEEN.index("validation"), UNSEEN.index("test")
_BENIGN = np.array([a.category == "Benign" for a in ATTACKS])


@dataclass(frozen=True)
class Fold:
    """What is left out of training.

    Attributes
    ----------
    name, kind : str
        Of an attack or a category; ``attack`` or ``category``.
    attacks : tuple of int
        Ids of the attacks left out.
    """

    name: str
    kind: str
    attacks: tuple[int, ...]


def plan_folds(there: Iterable[tuple[str, int]], wanted: Sequence[str]) -> list[Fold]:
    """Each attack once, then each category of several attacks; a category of one is that attack.

    Parameters
    ----------
    there : iterable of (str, int)
        Each split with each attack that it has rows of.
    wanted : sequence of str
        Names of attacks and categories; without any, all that there are.

    Raises
    ------
    ConfigError
        Naming every name that is unknown, with the nearest known one, or that has no rows to learn from or to test on.

    Examples
    --------
    >>> there = [(split, attack) for split in ("train", "test") for attack in range(4)]
    >>> [(fold.kind, fold.name) for fold in plan_folds([*there, ("test", 4)], [])]
    [('attack', 'ARP_Spoofing'), ('attack', 'Recon-Ping_Sweep'), ('attack', 'Recon-VulScan'), ('category', 'Recon')]
    """
    rows = {(split, attack) for split, attack in there}
    usable = [a for a in ATTACKS if a.category != "Benign" and {("train", a.id), ("test", a.id)} <= rows]
    by_category = {c: tuple(a.id for a in usable if a.category == c) for c in CATEGORIES}
    folds = [Fold(a.name, "attack", (a.id,)) for a in usable]
    folds += [Fold(c, "category", ids) for c, ids in by_category.items() if len(ids) > 1]
    known = [a.name for a in ATTACKS if a.category != "Benign"] + list(CATEGORIES[1:])
    problems = []
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            problems.append(f"unknown.hold_out names '{name}', which is neither an attack nor a category; did you mean '{near}'?")
        elif name not in [fold.name for fold in folds]:
            problems.append(f"unknown.hold_out names '{name}', of which there are no rows in both splits, or one attack only")
    if not folds:
        problems.append("there is no attack to hold out: none has rows in the train split and in the test split")
    raise_all(problems, ConfigError, "configuration")
    return [fold for fold in folds if not wanted or fold.name in wanted]


class Promises(Protocol):
    """What the configuration allows."""

    @property
    def false_alarms_per_million(self) -> int:
        """Alerts that a million benign validation rows may raise."""

    @property
    def verdict_error(self) -> float:
        """Share of the answers of a level that may be wrong."""


def describe_unknown(
    folds: Sequence[Fold], whole: Mapping[str, tuple[ScoreCounts, HierarchyCounts]],
    without: Mapping[tuple[str, str], tuple[ScoreCounts, HierarchyCounts]], anomaly: Sequence[str], promises: Promises,
) -> dict[str, Any]:
    """The result of `unknown_attacks`, but for run and data.

    Parameters
    ----------
    whole : mapping of str to counts
        By detector, trained with everything, or from benign rows.
    without : mapping of (str, str) to counts
        By detector and fold, trained without the fold's attacks.
    anomaly : sequence of str
        The detectors of `whole` that know benign rows only.

    Returns
    -------
    dict
        ``folds``, see `describe_fold`; ``anomaly``, see `describe_anomaly`; what was promised and how rows were counted.
    """
    by_name, budget = {fold.name: fold for fold in folds}, promises.false_alarms_per_million
    return {
        "false_alarms_per_million": budget, "verdict_error": promises.verdict_error, "novelty_error": NOVELTY_ERROR,
        "counted": "distinct",
        "folds": [
            describe_fold(by_name[name], d, *counts, whole[d][0], budget=budget, error=promises.verdict_error)
            for (d, name), counts in without.items()
        ],
        "anomaly": [describe_anomaly(d, whole[d][0], folds, budget=budget) for d in anomaly],
    }


def describe_fold(
    fold: Fold, detector: str, counts: ScoreCounts, levels: HierarchyCounts, learnt: ScoreCounts, *, budget: int, error: float
) -> dict[str, Any]:
    """What a detector of single attacks makes of one that it has not learnt.

    Parameters
    ----------
    counts, levels : ScoreCounts, HierarchyCounts
        Of a detector that was trained without the fold's attacks; validation rows of them are left out, test rows are not.
    learnt : ScoreCounts
        Of the same detector trained with them.
    budget : int
        False alarms that a million benign validation rows may raise.
    error : float
        Share of the answers of a level that may be wrong, see `hierarchy.choose_places`.

    Returns
    -------
    dict
        ``recall`` as "any alert" and ``recall_learnt``, that of the detector which has learnt the attack; ``false_alarms``;
        ``alarm``, AUROC of the alarm score against benign rows; ``mistaken_for``, the likeliest classes; ``levels``, how far
        an answer goes that stops where it is not sure, and how often it is right so far; ``novelty``. Test split.
    """
    held = list(fold.attacks)
    benign, own = counts.alarm[_TEST, _BENIGN].sum(axis=(0, 1)), counts.alarm[_TEST, held].sum(axis=(0, 1))
    return {
        "detector": detector, "held_out": fold.name, "kind": fold.kind, "attacks": [ATTACKS[a].name for a in held],
        "rows": int(own.sum()), "recall": _alerts(counts, held, budget), "recall_learnt": _alerts(learnt, held, budget),
        "false_alarms": _alerts(counts, np.flatnonzero(_BENIGN).tolist(), budget), "alarm": auroc(benign, own),
        "mistaken_for": _mistaken_for(counts.decided[_TEST, held].sum(axis=0)),
        "levels": _levels(answer_cells(levels.answers[_TEST], choose_places(levels, error))[held].sum(axis=0)),
        "novelty": _novelty(levels, held),
    }


def describe_anomaly(detector: str, counts: ScoreCounts, folds: Sequence[Fold], *, budget: int) -> dict[str, Any]:
    """What a detector that knows benign rows only makes of each fold's attacks: recall and AUROC against benign test rows."""
    benign = counts.alarm[_TEST, _BENIGN].sum(axis=(0, 1))
    return {
        "detector": detector, "false_alarms": _alerts(counts, np.flatnonzero(_BENIGN).tolist(), budget),
        "held_out": {
            fold.name: {
                "recall": _alerts(counts, list(fold.attacks), budget),
                "alarm": auroc(benign, counts.alarm[_TEST, list(fold.attacks)].sum(axis=(0, 1))),
            } for fold in folds
        },
    }


def auroc(others: np.ndarray, own: np.ndarray) -> dict[str, float] | None:
    """Area under the ROC curve from counts, with its 95 % interval by DeLong, DeLong and Clarke-Pearson [1]_.

    Parameters
    ----------
    others, own : ndarray of int64, shape (bins,)
        Rows by score, ascending; rows of a bin are ties.

    Returns
    -------
    dict of str to float or None
        ``value``, ``low``, ``high``; None with fewer than two rows on either side. The interval is for independent rows, and
        has no width where no row is out of order.

    References
    ----------
    .. [1] Biometrics 44, 1988. https://doi.org/10.2307/2531595
    """
    n_own, n_others = int(own.sum()), int(others.sum())
    if min(n_own, n_others) < 2:
        return None
    above_others = (np.cumsum(others) - others / 2) / n_others
    below_own = (at_or_above(own) - own / 2) / n_own
    value = float(own @ above_others) / n_own
    variance = float(own @ (above_others - value) ** 2) / (n_own - 1) / n_own
    variance += float(others @ (below_own - value) ** 2) / (n_others - 1) / n_others
    reach = _NORMAL_95 * variance**0.5
    return {"value": value, "low": max(value - reach, 0.0), "high": min(value + reach, 1.0)}


def _alerts(counts: ScoreCounts, attacks: Sequence[int], budget: int) -> dict[str, Any] | None:
    """Share of the test rows of some classes that alert at the threshold picked on benign validation rows."""
    at = choose_threshold(np.append(at_or_above(counts.alarm[_VALIDATION, _BENIGN].sum(axis=(0, 1))), 0), budget)
    reached = np.append(at_or_above(counts.alarm[_TEST, list(attacks)].sum(axis=(0, 1))), 0)
    return None if at is None else share(int(reached[at]), int(reached[0]))


def share(hits: int, rows: int) -> dict[str, Any] | None:
    """A share of rows with its exact 95 % interval; None without rows."""
    if not rows:
        return None
    low, high = clopper_pearson(hits, rows)
    return {"rows": rows, "hits": hits, "rate": hits / rows, "low": low, "high": high}


def _mistaken_for(decided: np.ndarray) -> list[dict[str, Any]]:
    """The answers given most often."""
    order = sorted(np.flatnonzero(decided).tolist(), key=lambda c: (-decided[c], c))[:_MOST_NAMED]
    names, rows = class_names("attack"), int(decided.sum())
    return [{"class": names[c], "rows": int(decided[c]), "share": int(decided[c]) / rows} for c in order]


def _levels(cells: np.ndarray) -> dict[str, int]:
    """Rows by how an answer ends that stops where it is not sure; an attack that was not learnt cannot be named."""
    return {
        "no_answer": int(cells[0].sum()), "attack": int(cells[1, 1]), "category": int(cells[2, 2]),
        "wrong_name": int(cells[3, 2]), "wrong_category": int(cells[2, 1] + cells[3, 1]),
        "benign": int(cells[1:, 0].sum()),
    }


def _novelty(levels: HierarchyCounts, held: Sequence[int]) -> dict[str, Any]:
    """How new the attacks look: strange is a row whose likeliest class is not likely (Hendrycks and Gimpel, ICLR 2017)."""
    strange = levels.sure[:, :, -1, ::-1]
    known = np.setdiff1d(np.arange(len(ATTACKS)), held)
    new = p_values(strange[_VALIDATION].sum(axis=0)) <= NOVELTY_ERROR
    flagged = {name: rows.sum(axis=0) for name, rows in (("held_out", strange[_TEST, held]), ("known", strange[_TEST, known]))}
    return {
        "auroc": auroc(flagged["known"], flagged["held_out"]), "error": NOVELTY_ERROR,
        "called_new": {name: share(int(rows[new].sum()), int(rows.sum())) for name, rows in flagged.items()},
    }
