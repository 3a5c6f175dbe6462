"""Whether a probability of 0.9 is right nine times in ten: expected calibration error, and one temperature to mend it.

A model's probabilities are raised to the power 1/T and divided by their sum [1]_. The order of classes, and so every
prediction, stays as it is. T is the one that makes validation rows likeliest; the test split has no say in it.

References
----------
.. [1] Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017. https://arxiv.org/abs/1706.04599
"""

from __future__ import annotations

from typing import Any

import numpy as np

from iomt_ids.evaluate.score_counts import TEMPERATURES, UNCHANGED, UNIT, UNSEEN, ScoreCounts


def describe_calibration(counts: ScoreCounts) -> dict[str, Any]:
    """The ``calibration`` of a model in `scores.json`.

    Returns
    -------
    dict
        ``temperature``, None without validation rows; for validation and test the mean negative log-likelihood (nats) and
        the expected calibration error before and after, None without rows; ``reliability`` of the test split before and
        after, one entry a bin that has rows.
    """
    chosen = choose_temperature(counts)
    entry: dict[str, Any] = {"temperature": None if chosen is None else float(TEMPERATURES[chosen])}
    steps = {"before": UNCHANGED, "after": chosen}
    for split in ("validation", "test"):
        place = UNSEEN.index(split)
        entry[split] = {"rows": int(counts.decided[place].sum())}
        for when, t in steps.items():
            entry[split][f"nll_{when}"] = None if t is None else negative_log_likelihood(counts, place, t)
            entry[split][f"ece_{when}"] = None if t is None else calibration_error(counts.reliability[place, t])
    test = counts.reliability[UNSEEN.index("test")]
    entry["reliability"] = {when: [] if t is None else _bins(test[t]) for when, t in steps.items()}
    return entry


def choose_temperature(counts: ScoreCounts) -> int | None:
    """Place in `TEMPERATURES` of the one that makes the validation rows likeliest; None if there are none.

    Rows to whose class a model gave a probability of exactly 0 cost the same at every temperature: they have no say.
    """
    validation = UNSEEN.index("validation")
    return int(counts.loss[validation].argmin()) if counts.decided[validation].any() else None


def negative_log_likelihood(counts: ScoreCounts, split: int, temperature: int) -> float | None:
    """Mean loss of a split's rows at a temperature, nats; None without rows.

    Parameters
    ----------
    split, temperature : int
        Places in `UNSEEN` and `TEMPERATURES`.
    """
    rows = int(counts.decided[split].sum())
    return float(counts.loss[split, temperature] * UNIT / rows) if rows else None


def calibration_error(reliability: np.ndarray) -> float | None:
    """Expected calibration error: mean distance of confidence and accuracy over bins, weighted by rows.

    Parameters
    ----------
    reliability : ndarray of int64, shape (bins, 3)
        As in `ScoreCounts`, of one split and temperature.

    Returns
    -------
    float or None
        A fraction; None without rows.

    Examples
    --------
    >>> calibration_error(np.array([[4, 3, 2 * 2**24], [0, 0, 0]]))
    0.25
    """
    rows, right, confidence = reliability.T.astype(float)
    return float(np.abs(right - confidence * UNIT).sum() / rows.sum()) if rows.any() else None


def _bins(reliability: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"rows": int(rows), "accuracy": right / rows, "confidence": confidence * UNIT / rows}
        for rows, right, confidence in reliability.tolist() if rows
    ]
