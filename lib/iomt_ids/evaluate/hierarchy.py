"""An answer at the deepest level that a model is sure of: "DDoS, kind unsure".

Thresholds are picked on validation rows. Of the answers that name a level, alone or on the way to a deeper one, at most a given
share is wrong at that level: with 95 % confidence for all levels together, for rows exchangeable with the validation rows. Test
rows are later in the same captures, so what became of the promise there is told beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from iomt_ids.contract.attacks import ATTACKS
from iomt_ids.contract.hierarchy import levels_of
from iomt_ids.contract.problem import Problem
from iomt_ids.evaluate.conformal import set_edge
from iomt_ids.evaluate.curves import at_or_above, rounded, spread_out
from iomt_ids.evaluate.hierarchy_counts import ANY, DEEPER, OWN, TRUE, HierarchyCounts
from iomt_ids.evaluate.intervals import chance_of_so_few, clopper_pearson
from iomt_ids.evaluate.score_counts import BINS, EDGES, UNSEEN

CONFIDENCE = 0.95
_SET_ERRORS = (0.1, 0.05, 0.01)
_POINTS = 60
_VALIDATION, _TEST = UNSEEN.index("validation"), UNSEEN.index("test")


def describe_hierarchy(
    model: str, detector: str, problem: Problem, counts: HierarchyCounts, *, error: float, resamples: int, seed: int
) -> dict[str, Any]:
    """A model's entry of ``hierarchy`` in `scores.json`.

    Parameters
    ----------
    model, detector : str
        Their names.
    problem : Problem
        What it was asked to learn.
    counts : HierarchyCounts
        From `count_hierarchy`.
    error : float
        Share of the answers of a level that may be wrong.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``levels``, coarsest first: the threshold of the answer's probability (None: never sure enough), its log-odds, and
        of validation and test how many rows were answered and how many answers were wrong, with exact 95 % intervals;
        ``answers`` of the test split by how deep they went, with hierarchical precision, recall and F1; ``flat``, the same
        if the deepest level always answered; ``by_attack``; ``curves``, error by coverage of each level; ``sets``,
        conformal sets of the deepest level. Rows are distinct vectors.
    """
    places = choose_places(counts, error)
    levels = levels_of(problem.task)
    cells = answer_cells(counts.answers[_TEST], places)
    flat = answer_cells(counts.answers[_TEST], [*[1] * len(levels)])
    told = [_level(counts, depth, name, places[depth]) for depth, name in enumerate(levels)]
    return {
        "model": model, "detector": detector, "task": problem.task, "features": problem.feature_set, "counted": "distinct",
        "error": error, "confidence": CONFIDENCE, "levels": told,
        "answers": _answers(cells.sum(axis=0), levels, resamples, seed),
        "flat": hierarchical_scores(flat.sum(axis=0), resamples, seed),
        "by_attack": {a.name: _of_attack(cells[a.id], levels) for a in ATTACKS if cells[a.id].any()},
        "curves": {name: _curve(counts, depth) for depth, name in enumerate(levels) if cells.any()},
        "sets": _sets(counts), "notes": _notes(told, error),
    }


def choose_places(counts: HierarchyCounts, error: float) -> list[int]:
    """For each level, the place in `EDGES` from which on its answers are sure enough, picked on validation rows.

    Returns
    -------
    list of int
        Not falling with depth, `BINS` where no answer is sure enough.

    Notes
    -----
    Thresholds are tried from the strictest down, each by an exact binomial test of "more than `error` of the answers are
    wrong", and the last one before the first failure is taken. As the order is fixed, no test needs a correction [1]_, but
    the levels share the chance of being mistaken. The first one tried is that which leaves enough rows to pass without an
    error; it depends on how sure the answers are, not on whether they are right. A stricter threshold than the one that was
    picked has passed too, so raising a deeper level's to that of the level above breaks no promise.

    References
    ----------
    .. [1] Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then test: calibrating predictive algorithms to achieve risk
       control", 2021. https://arxiv.org/abs/2110.01052. Selective classification with a guaranteed risk: Geifman,
       El-Yaniv, NeurIPS 2017. https://arxiv.org/abs/1705.08500
    """
    depths = counts.answers.shape[2]
    allowed = (1 - CONFIDENCE) / depths
    enough = math.ceil(math.log(allowed) / math.log1p(-error))
    places: list[int] = []
    for depth in range(depths):
        answered, wrong = _answered(counts, _VALIDATION, depth)
        place = BINS
        # Of thresholds with the same answers the strictest is the first, and no other is tried.
        for at in np.flatnonzero(np.diff(answered, append=0))[::-1].tolist():
            if answered[at] < enough:
                continue
            if chance_of_so_few(int(wrong[at]), int(answered[at]), error) > allowed:
                break
            place = at
        places.append(max([place, *places]))
    return places


def answer_cells(answers: np.ndarray, places: list[int]) -> np.ndarray:
    """Rows by how deep they were answered and how many levels of the answer are right.

    Parameters
    ----------
    answers : ndarray of int64, shape (attacks, levels, 2, levels + 1, BINS)
        As in `HierarchyCounts`, of one split.
    places : list of int
        From `choose_places`.

    Returns
    -------
    ndarray of int64, shape (attacks, levels + 1, levels + 1)
        By true attack, by levels answered, by levels right.
    """
    reached = np.pad(at_or_above(answers), [(0, 0)] * 4 + [(0, 1)])
    depths = len(places)
    cells = np.zeros((len(answers), depths + 1, depths + 1), np.int64)
    cells[:, 0, 0] = answers[:, 0, OWN].sum(axis=(1, 2)) - reached[:, 0, OWN, :, places[0]].sum(axis=1)
    for depth, place in enumerate(places):
        # An answer that goes deeper is sure enough here too: a class is no likelier than the one above it.
        deeper = reached[:, depth, DEEPER, :, places[depth + 1]] if depth + 1 < depths else 0
        cells[:, depth + 1] = reached[:, depth, OWN, :, place] - deeper
    return cells


def hierarchical_scores(cells: np.ndarray, resamples: int, seed: int) -> dict[str, float | None]:
    """Hierarchical precision, recall and F1 [1]_, with the 95 % interval of F1.

    Parameters
    ----------
    cells : ndarray of int64, shape (levels + 1, levels + 1)
        Rows by levels answered and levels right.
    resamples, seed : int
        Of a bootstrap of the rows.

    Returns
    -------
    dict of str to float or None
        Of all levels that were answered, the share that is right; of all levels that there are, the share that was answered
        right; their harmonic mean. None without rows, or where nothing was answered.

    References
    ----------
    .. [1] Kiritchenko, Matwin, Nock, Famili, "Learning and evaluation in the presence of class hierarchies", Canadian AI
       2006. https://doi.org/10.1007/11766247_34
    """
    names = ("precision", "recall", "f1")
    if not cells.any():
        return dict.fromkeys([*names, "f1_low", "f1_high"])
    rows = int(cells.sum())
    drawn = np.random.default_rng(seed).multinomial(rows, cells.ravel() / rows, size=resamples).reshape(-1, *cells.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        point, (low, high) = _shares(cells), np.nanquantile(_shares(drawn)[2], [0.025, 0.975])
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in zip([*names, "f1_low", "f1_high"], [*point, low, high], strict=True)
    }


def _shares(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    depths = np.arange(cells.shape[-1])
    answered, right = (cells.sum(axis=-1) @ depths).astype(float), (cells.sum(axis=-2) @ depths).astype(float)
    there = depths[-1] * cells.sum(axis=(-2, -1))
    return right / answered, right / there, 2 * right / (answered + there)


def _answered(counts: HierarchyCounts, split: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are answered at a level if the threshold is at an edge, and those of them that are wrong."""
    own = counts.answers[split, :, depth, OWN].sum(axis=0)
    return at_or_above(own.sum(axis=0)), at_or_above(own[: depth + 1].sum(axis=0))


def _level(counts: HierarchyCounts, depth: int, name: str, place: int) -> dict[str, Any]:
    never = place == BINS
    entry: dict[str, Any] = {
        "level": name, "log_odds": None if never else float(EDGES[max(place, 1)]),
        "threshold": None if never else float(1 / (1 + math.exp(-EDGES[max(place, 1)]))),
    }
    for split in (_VALIDATION, _TEST):
        answered, wrong = (np.append(rows, 0) for rows in _answered(counts, split, depth))
        entry[UNSEEN[split]] = {"rows": int(answered[0]), **_share(int(wrong[place]), int(answered[place]))}
    return entry


def _share(wrong: int, answered: int) -> dict[str, Any]:
    low, high = clopper_pearson(wrong, answered) if answered else (None, None)
    return {"answered": answered, "wrong": wrong, "error": wrong / answered if answered else None, "low": low, "high": high}


def _answers(cells: np.ndarray, levels: tuple[str, ...], resamples: int, seed: int) -> dict[str, Any]:
    depths = [{"level": None, "rows": int(cells[0].sum()), "wrong": 0}] + [
        {"level": name, "rows": int(cells[d].sum()), "wrong": int(cells[d, :d].sum())} for d, name in enumerate(levels, start=1)
    ]
    return {"rows": int(cells.sum()), "depths": depths, **hierarchical_scores(cells, resamples, seed)}


def _of_attack(cells: np.ndarray, levels: tuple[str, ...]) -> dict[str, Any]:
    """Of an attack's rows: how many stop at each level, right and wrong."""
    return {
        "rows": int(cells.sum()), "unsure": int(cells[0].sum()),
        "right": {name: int(cells[d, d]) for d, name in enumerate(levels, start=1)},
        "wrong": {name: int(cells[d, :d].sum()) for d, name in enumerate(levels, start=1)},
    }


def _curve(counts: HierarchyCounts, depth: int) -> dict[str, Any]:
    """Share of test rows answered and share of those answers that is wrong, from the strictest threshold to none."""
    answered, wrong = (rows[::-1] for rows in _answered(counts, _TEST, depth))
    there = np.flatnonzero(np.diff(answered, prepend=0))
    coverage, risk = answered[there] / answered[-1], wrong[there] / answered[there]
    kept = spread_out(np.stack([coverage, risk]), _POINTS)
    return {
        # The mean error over all coverages; rows that are equally sure are answered together.
        "area": float(np.diff(coverage, prepend=0) @ risk),
        "coverage": rounded(coverage[kept]), "error": rounded(risk[kept]),
        "threshold": [float(1 / (1 + math.exp(-odds))) for odds in EDGES[::-1][1:][there[kept]].tolist()],
    }


def _sets(counts: HierarchyCounts) -> list[dict[str, Any]]:
    """Conformal sets of the deepest level at each promise: what they hold of test rows, and how large they are."""
    own, pairs = counts.sets[:, :, TRUE].sum(axis=1), counts.sets[:, :, ANY].sum(axis=1)
    rows = int(own[_TEST].sum())
    if not own[_VALIDATION].any() or not rows:
        return []
    found = []
    for error in _SET_ERRORS:
        place = set_edge(own[_VALIDATION], error)
        held = int(own[_TEST, place:].sum())
        low, high = clopper_pearson(held, rows)
        empty = int(counts.sure[_TEST, :, -1, :place].sum())
        found.append({
            "promise": 1 - error, "threshold": float(1 / (1 + math.exp(-EDGES[place]))) if place else 0.0,
            "coverage": held / rows, "low": low, "high": high, "classes": int(pairs[_TEST, place:].sum()) / rows,
            "empty": empty / rows,
        })
    return found


def _notes(levels: list[dict[str, Any]], error: float) -> list[str]:
    said = []
    for level in levels:
        if level["threshold"] is None and level["validation"]["rows"]:
            said.append(f"No threshold keeps wrong answers of level {level['level']} below {100 * error:g} % on validation rows.")
    broken = [e["level"] for e in levels if e["test"]["low"] is not None and e["test"]["low"] > error]
    if broken:
        said.append(
            f"On test rows more than {100 * error:g} % of the answers are wrong at level {', '.join(broken)}, and more than "
            "chance explains: test rows differ from the validation rows that thresholds were picked on."
        )
    return said
