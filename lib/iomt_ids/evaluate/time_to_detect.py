"""After how many windows of an attack somebody is woken, and after how many it is known what kind of attack it is.

Windows of a test capture are taken in order, at the threshold that keeps the budget of false alarms on validation rows. A
capture begins somewhere in its attack by chance, so the waits from every window on are told beside that from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iomt_ids.contract.attacks import ATTACKS, Attack
from iomt_ids.evaluate.answers import Answers, CaptureAnswers
from iomt_ids.evaluate.waits import Waits, quantile, stretches_with_a_hit

_MEDIAN, _MOST = 0.5, 0.95


def describe_times(
    models: Sequence[Answers], captures: Sequence[CaptureAnswers], *, stable_windows: int, false_alarms_per_million: int
) -> list[dict[str, Any]]:
    """The ``time_to_detect`` of `scores.json`: an entry a model.

    Parameters
    ----------
    models : sequence of Answers
        In the order of the counts in ``captures``.
    captures : sequence of CaptureAnswers
        Of `count_answers`; those whose rows do not stand on neighbouring lines are left out.
    stable_windows : int
        Alerts in a row that name one category, for `count_answers`.

    Returns
    -------
    list of dict
        ``threshold``, ``false_alarms_per_million``, ``stable_windows``, ``scrambled`` (captures left out), and ``attacks``: for
        each its ``attack``, ``captures``, ``windows``, ``packets_per_window`` (None where it is not told or differs) and two waits,
        ``alert`` and ``stable``. A wait has ``first`` (windows from the start of each capture, the one of the alert, or the
        last one of the stable verdict, included; None: never), ``first_packets`` (the same in packets), ``median`` and
        ``most`` (windows that are enough from half and from 95 % of all windows on; None: more never see it), and
        ``benign``: of all benign test stretches as long as the slowest ``first``, the share with such an alert or verdict,
        with the number of stretches; None without any.
    """
    told = [c for c in captures if c.is_whole]
    entries = []
    for place, model in enumerate(models):
        entries.append({
            "model": model.model, "detector": model.detector, "task": model.problem.task, "features": model.problem.feature_set,
            "threshold": model.threshold, "false_alarms_per_million": false_alarms_per_million,
            "stable_windows": stable_windows, "scrambled": len(captures) - len(told),
            "attacks": [
                _attack(a, place, [c for c in told if c.attack == a.id], told, stable_windows)
                for a in ATTACKS if a.category != "Benign" and any(c.attack == a.id for c in told)
            ],
        })
    return entries


def _attack(
    attack: Attack, place: int, own: Sequence[CaptureAnswers], told: Sequence[CaptureAnswers], stable_windows: int
) -> dict[str, Any]:
    benign = [c for c in told if ATTACKS[c.attack].category == "Benign" and ATTACKS[c.attack].protocol == attack.protocol]
    packets = {c.packets for c in own}
    each = packets.pop() if len(packets) == 1 else None
    return {
        "attack": attack.name, "captures": len(own), "windows": sum(c.rows for c in own), "packets_per_window": each,
        "alert": _wait([c.alerts[place] for c in own], [c.alerts[place] for c in benign], 0, each),
        "stable": _wait([c.stable[place] for c in own], [c.stable[place] for c in benign], stable_windows - 1, each),
    }


def _wait(own: Sequence[Waits], benign: Sequence[Waits], more: int, packets: float | None) -> dict[str, Any]:
    """Waits for something that is known `more` windows after it begins."""
    first = [None if w.first is None else w.first + 1 + more for w in own]
    slowest = None if None in first else max(n for n in first if n is not None)
    # A wait that begins in the last windows has no time to become known: its places are not counted as hits or misses.
    found = [quantile(own, share) for share in (_MEDIAN, _MOST)]
    hits, stretches = stretches_with_a_hit(benign, slowest - more) if slowest else (0, 0)
    return {
        "first": first, "first_packets": [None if n is None or packets is None else n * packets for n in first],
        "median": None if found[0] is None else found[0] + more, "most": None if found[1] is None else found[1] + more,
        "benign": {"share": hits / stretches, "stretches": stretches} if stretches else None,
    }
