"""Which alerts are explained, by which features, and what shuffled features cost."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from iomt_ids.contract.problem import Problem
from iomt_ids.contract.tables import ALERTS, EXPLANATIONS
from iomt_ids.evaluate.explanations import (
    OTHERS,
    choose_alerts,
    describe_permutation,
    describe_verdicts_explained,
    explanations_text,
    name_features,
)

PROBLEM = Problem("attack", ("a", "b", "c"), "leak_free", (0, 1), ())


def alerts(spark, *rows):
    """Of each a flow_id, a verdict and whether it is an alert."""
    made = [(i, "file", i, None, "wifi_mqtt", verdict, 0.9, 0.9, None, yes, "m", None, None, None) for i, verdict, yes in rows]
    return spark.createDataFrame(made, ALERTS)


def explained(spark, *rows):
    """Of each a verdict, its output and its three contributions; the base is 0.5."""
    made = [(i, "file", i, "m", verdict, output, 0.5, parts, 10.0 * i, 20.0 * i, 30.0 * i)
            for i, (verdict, output, parts) in enumerate(rows, start=1)]
    return spark.createDataFrame(
        made, "flow_id long, source_file string, source_line long, model string, verdict string, output double, base double, "
        "contributions array<double>, a double, b double, c double",
    )


def test_the_same_few_alerts_of_each_verdict_are_chosen(spark):
    there = alerts(spark, (5, "Benign", True), (-3, "Recon", True), (4, "Recon", True), (9, "Recon", True), (-7, "Recon", False))
    for spread in (there.coalesce(1), there.repartition(4)):
        found = choose_alerts(spread, rows=2)
        assert sorted((r.verdict, r.flow_id) for r in found.collect()) == [("Benign", 5), ("Recon", -3), ("Recon", 4)]
        assert found.columns == ALERTS.fieldNames()


@pytest.mark.parametrize("top", [1, 2, 3, 9])
def test_the_most_telling_features_come_first_and_all_others_are_one_row(spark, top):
    rows = explained(spark, ("Recon", 0.9, [0.125, -0.25, 0.525]), ("Benign", 0.6, [0.1, 0.0, 0.0]))
    named = name_features(rows, PROBLEM, top=top, output_kind="probability")
    assert [(f.name, f.dataType) for f in named.schema] == [(f.name, f.dataType) for f in EXPLANATIONS]
    found = named.orderBy("flow_id", "place").collect()
    wanted = [("c", 30.0, 0.525), ("b", 20.0, -0.25), ("a", 10.0, 0.125)]
    rest = sum(part for _, _, part in wanted[top:])
    assert [(r.feature, r.value, r.contribution) for r in found if r.flow_id == 1] == [*wanted[:top], (OTHERS, None, rest)]
    assert [r.place for r in found] == 2 * list(range(1, min(top, 3) + 2))
    for flow in (1, 2):
        own = [r for r in found if r.flow_id == flow]
        assert sum(r.contribution for r in own) == pytest.approx(own[0].output - own[0].base, abs=1e-15)
    assert [r.feature for r in found if r.flow_id == 2][:2] == ["a", "b" if top > 1 else OTHERS]


def test_what_pushes_hardest_does_so_in_either_direction(spark):
    rows = explained(spark, ("Recon-VulScan", 0.9, [0.1, -0.5, 0.2]), ("Recon-VulScan", 0.6, [0.3, 0.3, -0.2]),
                     ("ARP_Spoofing", 0.7, [0.0, 0.0, 0.2]))
    told = describe_verdicts_explained(rows, {"Recon-VulScan": 70, "ARP_Spoofing": 1, "Benign": 3}, PROBLEM)
    assert [(v["verdict"], v["alerts"], v["explained"]) for v in told] == [("ARP_Spoofing", 1, 1), ("Recon-VulScan", 70, 2)]
    features = told[1]["features"]
    assert [f["feature"] for f in features] == ["b", "a", "c"]
    assert [f["mean_absolute"] for f in features] == pytest.approx([0.4, 0.2, 0.2])
    assert [f["mean"] for f in features] == pytest.approx([-0.1, 0.2, 0.0])


def labels_of(matrix):
    """Rows with such a confusion matrix."""
    pairs = [(i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in pairs], [j for _, j in pairs]


def test_a_drop_is_of_scikit_learns_macro_f1_and_its_spread_over_repeats():
    counts = np.zeros((3, 4, 21, 21), int)
    counts[..., :3, :3] = np.random.default_rng(0).integers(1, 20, size=(3, 4, 3, 3))
    counts[:, -1] = 0
    counts[:, -1, [0, 1, 2], [0, 1, 2]] = 40
    counts[:, -1, 0, 1] = 7
    counts[:, 0] = counts[:, -1]  # of a feature that is not used
    told = describe_permutation(counts, PROBLEM)

    def score(matrix):
        return f1_score(*labels_of(matrix), average="macro")

    assert (told["rows"], told["repeats"]) == (127, 3) and told["f1_macro"] == pytest.approx(score(counts[0, -1]), abs=1e-12)
    for name, place in (("b", 1), ("c", 2)):
        drops = [score(counts[0, -1]) - score(counts[repeat, place]) for repeat in range(3)]
        own = next(f for f in told["features"] if f["feature"] == name)
        assert own["drop"] == pytest.approx(np.mean(drops), abs=1e-12)
        assert own["spread"] == pytest.approx(np.std(drops, ddof=1), abs=1e-12)
    assert told["features"][-1] == {"feature": "a", "drop": 0.0, "spread": 0.0}
    assert [f["drop"] for f in told["features"]] == sorted((f["drop"] for f in told["features"]), reverse=True)
    assert {f["spread"] for f in describe_permutation(counts[:1], PROBLEM)["features"]} == {None}


def test_the_text_says_what_pushes_whose_data_it_is_and_what_was_not_measured():
    push = [{"feature": name, "mean_absolute": 0.25, "mean": 0.2} for name in "abcd"]
    content = {
        "data": {"name": "demo", "synthetic": True}, "model": "run/forest", "output_kind": "probability", "permutation": None,
        "verdicts": [{"verdict": "ARP_Spoofing", "alerts": 1234, "explained": 200, "features": push}],
    }
    title, _, _, line = explanations_text(content).splitlines()
    assert title == "demo, synthetic demo data: why run/forest raised alerts"
    assert line.split() == ["ARP_Spoofing", "1,234", "200", "a", "0.250,", "b", "0.250,", "c", "0.250"]
    wide = [{"feature": 20 * name, "mean_absolute": 0.25, "mean": 0.2} for name in "abcd"]
    content["verdicts"].append({"verdict": "Benign", "alerts": 1, "explained": 1, "features": wide})
    assert explanations_text(content).splitlines()[-1].split()[3:] == [20 * "a", "0.250,", 20 * "b", "0.250"], "no number is cut"
    shuffled = {"rows": 5000, "repeats": 1, "f1_macro": 0.9, "features": [{"feature": "a", "drop": 0.125, "spread": None}]}
    text = explanations_text({**content, "verdicts": [], "permutation": shuffled})
    assert "there is no alert" in text and text.splitlines()[-1].split() == ["a", "0.1250"]
    assert "5,000 validation rows, macro-F1 0.900" in text and max(map(len, text.splitlines())) <= 119
