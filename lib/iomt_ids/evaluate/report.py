"""One self-contained HTML file of a run, made from its `scores.json` and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from iomt_ids.contract.attacks import ATTACKS, SPLITS, TASKS
from iomt_ids.contract.flows import FEATURE_SETS, FLOW_COLUMNS, PAST_COLUMNS, RELEASES, SET_NAMES, VECTOR_SETS, FlowColumn
from iomt_ids.evaluate.charts import heat_map, interval_chart, line_chart, movement_map
from iomt_ids.evaluate.evidence import leak_section
from iomt_ids.evaluate.hierarchy_section import hierarchy_section
from iomt_ids.evaluate.insight import mistaken_for
from iomt_ids.evaluate.ledger_section import ledger_section, split_section, time_section
from iomt_ids.evaluate.operating_section import operating_section, per_million, percent, score_text

_SCOPES = {"all": "All traffic", "wifi_mqtt": "Wi-Fi and MQTT", "bluetooth": "Bluetooth"}
_QUESTIONS = {"binary": "Is it an attack?", "category": "Which kind of attack?", "attack": "Which attack exactly?"}
_METRICS = {
    "accuracy": "accuracy", "precision_macro": "precision", "recall_macro": "recall",
    "f1_macro": "F1", "f1_macro_low": "F1 from", "f1_macro_high": "F1 to",
    "precision_weighted": "weighted precision", "recall_weighted": "weighted recall",
    "f1_weighted": "weighted F1", "mcc": "MCC", "false_alarm_rate": "false-alarm rate",
}
_SECONDS = ("train_seconds", "score_seconds")
_COLUMNS = {c.name: c for c in (*FLOW_COLUMNS, *PAST_COLUMNS)}
_TOP_FEATURES = 16
_MAP_FEATURES = 22
_Score = Mapping[str, Any]


def render_report(scores: Mapping[str, Any]) -> str:
    """The report of a run.

    Parameters
    ----------
    scores : mapping
        The content of ``scores.json``. ``operating``, ``hierarchy``, ``models``, ``insight``, ``leaks``, ``duplicates``,
        ``splits``, ``ledger`` and ``time_to_detect`` may be empty: their sections then say why there is nothing to see.

    Returns
    -------
    str
        An HTML page that loads nothing: styles and charts are inside, and one script that sorts tables and moves
        thresholds; the content security policy names its hash and forbids all others. Every name in it is escaped.
    """
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=FunctionLoader(_read)
    )
    page.filters.update(num=_num, pct=_pct, count=_count, signed=_signed, measure=_measure, pretty=_pretty, score=score_text)
    script = _read("report.js")
    tested = [s for s in scores["scores"] if (s["split"], s["counted"]) == ("test", "rows")]
    best = {task: _best(tested, task) for task in TASKS}
    insight, leaks = scores.get("insight") or {}, _leaks(scores["data"].get("release"))
    return page.get_template("report.html.j2").render(
        script=Markup(script), script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),  # noqa: S704
        operating=operating_section(scores.get("operating") or [], _model_name), percent=percent, per_million=per_million,
        hierarchy=hierarchy_section(scores.get("hierarchy") or [], _model_name),
        ledger=ledger_section(scores.get("ledger") or {}, scores["run"]["id"]), splits=split_section(scores.get("splits") or {}),
        times=time_section(scores.get("time_to_detect") or []),
        run=scores["run"], data=scores["data"], columns=_COLUMNS, leaks=leaks,
        set_names=SET_NAMES, task_questions=_QUESTIONS, scope_names=_SCOPES,
        headlines=[_headline(tested, task, best[task]) for task in TASKS if any(s["task"] == task for s in tested)],
        scopes=[_scope(tested, scope) for scope in _SCOPES if any(s["scope"] == scope for s in tested)],
        models=[_model(s) for s in _in_order(tested) if s["scope"] == "all"],
        curves=_curves(scores.get("models") or {}), importances=_importances(scores.get("models") or {}),
        hunt=leak_section(scores.get("leaks") or {}, [c.name for c in leaks]),
        devices=insight.get("devices") or [], alarm_columns=_alarm_columns(insight.get("devices") or []),
        rows=_rows(scores["data"].get("rows") or {}), duplicates=scores.get("duplicates") or [], facts=_facts(scores),
        config=_flat(scores["run"].get("config") or {}), both_ways=_both_ways(scores["scores"]),
        **_attacks(insight.get("attacks") or [], best["attack"]),
    )


def _read(name: str) -> str:
    return resources.files("iomt_ids.evaluate").joinpath(name).read_text(encoding="utf-8")


def _leaks(release: str | None) -> list[FlowColumn]:
    """The columns that leak in a release, in all of them if it is not known."""
    return [c for c in FLOW_COLUMNS if c.leak and (release not in RELEASES or getattr(c, release))]


def _best(tested: Sequence[_Score], task: str) -> _Score | None:
    """The leak-free score of all traffic with the highest macro-F1."""
    wanted = (task, "leak_free", "all")
    found = [s for s in tested if (s["task"], s["features"], s["scope"]) == wanted and s["f1_macro"] is not None]
    return max(found, key=lambda s: s["f1_macro"], default=None)


def _headline(tested: Sequence[_Score], task: str, best: _Score | None) -> dict[str, Any]:
    """The best detector of a task and what the leaks are worth: all features less leak-free, same detector."""
    pairs: dict[str, dict[str, float]] = {}
    for s in tested:
        if (s["task"], s["scope"]) == (task, "all") and s["f1_macro"] is not None:
            pairs.setdefault(s["detector"], {})[s["features"]] = s["f1_macro"]
    worth = {name: both["all"] - both["leak_free"] for name, both in pairs.items() if {*VECTOR_SETS} <= {*both}}
    name = best["detector"] if best and best["detector"] in worth else max(worth, key=lambda n: worth[n], default=None)
    return {"task": task, "question": _QUESTIONS[task], "best": best,
            "leak_detector": name, "leak_worth": worth[name] if name else None}


def _in_order(scores: Sequence[_Score]) -> list[_Score]:
    return sorted(scores, key=lambda s: (TASKS.index(s["task"]), FEATURE_SETS.index(s["features"])))


def _scope(tested: Sequence[_Score], scope: str) -> dict[str, Any]:
    """Comparison table, interval charts and all metrics of one part of the test rows."""
    inside = _in_order([s for s in tested if s["scope"] == scope])
    found = {(s["detector"], s["task"], s["features"]): s for s in inside}
    tasks = [t for t in TASKS if any(s["task"] == t for s in inside)]
    detectors = list(dict.fromkeys(s["detector"] for s in tested))
    sets = [f for f in FEATURE_SETS if f in VECTOR_SETS or any(s["features"] == f for s in inside)]
    known = {*_METRICS, *_SECONDS, "rows"}
    extra = [k for k, v in (inside[0] if inside else {}).items() if k not in known and isinstance(v, int | float)]
    return {
        "key": scope, "name": _SCOPES[scope], "tasks": tasks, "sets": sets, "detectors": detectors, "found": found,
        "scores": inside, "best": {(t, f): _highest(inside, t, f) for t in tasks for f in sets},
        "rows": max(s["rows"] for s in inside), "metrics": _METRICS | {k: k.replace("_", " ") for k in extra},
        "charts": [(t, interval_chart(f"macro-F1 of each detector, task {t}, {_SCOPES[scope]}",
                                      [_interval_row(d, t, found) for d in detectors])) for t in tasks],
    }


def _both_ways(scores: Sequence[_Score]) -> list[tuple[_Score, _Score]]:
    """Scores of all test rows as they are, and of the same model with each distinct vector counted once."""
    places = {
        (s["counted"], s["detector"], s["task"], s["features"]): s
        for s in _in_order([s for s in scores if (s["split"], s["scope"]) == ("test", "all")])
    }
    pairs = [(s, places.get(("distinct", *key[1:]))) for key, s in places.items() if key[0] == "rows"]
    return [(rows, distinct) for rows, distinct in pairs if distinct is not None]


def _highest(scores: Sequence[_Score], task: str, features: str) -> float | None:
    """The highest macro-F1, None where there is nothing to compare."""
    values = [s["f1_macro"] or 0 for s in scores if (s["task"], s["features"]) == (task, features)]
    return max(values) if len(values) > 1 else None


def _interval_row(detector: str, task: str, found: Mapping[tuple[str, str, str], _Score]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": _pretty(detector)}
    for features in FEATURE_SETS:
        s = found.get((detector, task, features))
        defined = s is not None and s["f1_macro"] is not None
        row[features] = (s["f1_macro"], s.get("f1_macro_low"), s.get("f1_macro_high")) if s and defined else None
    return row


def _model(score: _Score) -> dict[str, Any]:
    """One detector at one task: its classes one by one and what it mistakes for what."""
    name = f"{_pretty(score['detector'])}, {score['task']}, {SET_NAMES[score['features']]}"
    mistakes = mistaken_for(score["confusion"], score["classes"])
    worst = max(((found[0]["count"], true) for true, found in mistakes.items() if found), default=None)
    said = "no mistake"
    if worst:
        first = mistakes[worst[1]][0]
        said = (f"most frequent mistake: {worst[1]} taken for {first['class']}, {first['count']:,} rows,"
                f" {100 * first['share']:.1f} % of its own")
    absent = sum(1 for c in score["classes"] if not score["per_class"][c]["support"])
    return {"score": score, "name": name, "said": said, "absent": absent,
            "heat": heat_map(f"Confusion matrix of {name}; {said}", score["confusion"], score["classes"])}


def _curves(models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A chart of the losses and one of the other measures for each model that learnt in rounds."""
    drawn = []
    for name, model in models.items():
        points = model.get("curves") or []
        if not points:
            continue
        series: dict[str, list[tuple[float, float]]] = {}
        for i, point in enumerate(points):
            for key, value in point.items():
                if key not in ("epoch", "round"):
                    series.setdefault(key, []).append((point.get("epoch", point.get("round", i + 1)), value))
        groups = ([k for k in series if k.endswith("loss")], [k for k in series if k.endswith("accuracy") or "f1" in k])
        charts = [line_chart(f"{title} of {name} by epoch", {_curve_name(k): series[k] for k in keys[:4]})
                  for keys, title in zip(groups, ("loss", "accuracy"), strict=True)]
        last = {key: values[-1][1] for key, values in series.items()}
        drawn.append({"name": _model_name(name), "charts": [c for c in charts if c],
                      "last": last, "epochs": len(points)})
    return drawn


def _curve_name(key: str) -> str:
    return key.replace("validation", "valid.").replace("_", " ")


def _model_name(model: str) -> str:
    """``random_forest-attack-leak_free`` in words; a name of another form stays as it is."""
    parts = model.rsplit("-", 2)
    if len(parts) != 3:
        return model
    return f"{_pretty(parts[0])}, {parts[1]}, {SET_NAMES.get(parts[2], parts[2])}"


def _importances(models: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By task and feature set: the features with the largest mean share, with the share in each detector."""
    tables = []
    for task in reversed(TASKS):
        for features in FEATURE_SETS:
            suffix = f"-{task}-{features}"
            shares = {name.removesuffix(suffix): m["importances"] for name, m in models.items()
                      if name.endswith(suffix) and m.get("importances")}
            if not shares:
                continue
            total = {f: sum(s.get(f, 0.0) for s in shares.values()) for f in set().union(*shares.values())}
            top = sorted(total, key=lambda f: (-total[f], f))[:_TOP_FEATURES]
            tables.append({"task": task, "features": features, "shares": shares, "top": top,
                           "left_out": len(total) - len(top),
                           "most": max(s.get(f) or 0.0 for s in shares.values() for f in top) or 1.0})
    return tables


def _attacks(attacks: Sequence[Mapping[str, Any]], best: _Score | None) -> dict[str, Any]:
    """Each attack's movements and mistakes, and the map of all of them."""
    mistakes = mistaken_for(best["confusion"], best["classes"]) if best else {}
    results = best["per_class"] if best else {}
    shown = [{**a, "mistakes": mistakes.get(a["attack"], []), "result": results.get(a["attack"])} for a in attacks]
    weight: dict[str, float] = {}
    for a in attacks:
        for f in a["features"]:
            weight[f["feature"]] = weight.get(f["feature"], 0) + abs(f["separation"])
    order = {name: i for i, name in enumerate(_COLUMNS)}
    heaviest = sorted(weight, key=lambda f: (-weight[f], f))[:_MAP_FEATURES]
    columns = sorted(heaviest, key=lambda f: order.get(f, len(order)))
    rows = [(a["attack"], {f["feature"]: f["separation"] for f in a["features"]}) for a in attacks]
    label = "Features that are higher or lower in each attack than in benign traffic"
    return {"attacks": shown, "attack_map": movement_map(label, rows, columns) if columns else "", "judge": best}


def _alarm_columns(devices: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """By task, the models whose false alarms are known, leak-free ones where there are any."""
    names = list(dict.fromkeys(m for d in devices for m in d["false_alarms"]))
    names = [m for m in names if m.endswith("-leak_free")] or names
    by_task = [(task, [(m, _pretty(m.split("-")[0])) for m in names if f"-{task}-" in m]) for task in TASKS]
    return [(task, found) for task, found in by_task if found]


def _rows(rows: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    splits = [s for s in (*SPLITS, *(set(rows) - set(SPLITS))) if s in rows]
    known = {a.name: a.category for a in ATTACKS}
    occurring = {name for classes in rows.values() for name in classes}
    names = [n for n in known if n in occurring] + sorted(occurring - set(known))
    return {"splits": splits,
            "classes": [(n, known.get(n, "–"), [rows[s].get(n, 0) for s in splits]) for n in names],
            "totals": [sum(rows[s].values()) for s in splits]}


def _facts(scores: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    run, data = scores["run"], scores["data"]
    seconds = run.get("seconds")
    about = {
        "run": run["id"], "job": run.get("job"), "started": run.get("started"),
        "seconds": None if seconds is None else f"{seconds:.1f}", "data": data["name"], "read from": data.get("raw"),
        "release": data.get("release"), "note": data.get("note"),
    }
    parts = {"Run and data": about, "Versions": run.get("versions") or {}, "Table versions": data.get("tables") or {}}
    return [(title, [(key, str(value)) for key, value in pairs.items() if value not in (None, "")])
            for title, pairs in parts.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            found.append((f"{prefix}{key}", shown))
    return found


_UNDEFINED = Markup('<span class="none" title="absent class has no score">–</span>')


def _num(value: float | None, digits: int = 3) -> str:
    return _UNDEFINED if value is None else f"{value:.{digits}f}"


def _pct(value: float | None, digits: int = 1) -> str:
    return _UNDEFINED if value is None else f"{100 * value:.{digits}f} %"


def _signed(value: float, digits: int = 3) -> str:
    # A true minus sign is as wide as the plus.
    return f"{value:+.{digits}f}".replace("-", "−")


def _count(value: int | None) -> str:
    return _UNDEFINED if value is None else f"{value:,}".replace(",", "\u202f")


def _measure(value: float | None) -> str:
    """A median of any magnitude, three significant digits."""
    if value is None:
        return _UNDEFINED
    text = f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def _pretty(name: str) -> str:
    return name.replace("_", " ").capitalize()
