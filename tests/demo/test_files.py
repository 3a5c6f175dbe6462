"""The demo's rows: repeatable, official in form, with the faults of the real release and an honest difficulty."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score

from iomt_ids.contract.errors import ConfigError
from iomt_ids.contract.flows import columns_of, source_header
from iomt_ids.demo import DemoFile, demo_files, rows_for_bytes
from iomt_ids.ingest.source import Capture
from iomt_ids.ingest.sources.ciciomt2024 import describe_capture

_ROWS = 20_000
_TRAIN = "WiFI_and_MQTT/attacks/csv/train"

Read = Callable[[str], pd.DataFrame]
Verdicts = tuple[pd.Series, pd.Series]


def _bytes(file: DemoFile) -> bytes:
    return b"".join(file.chunks())


def _digests(seed: int) -> dict[str, str]:
    return {file.path: hashlib.sha256(_bytes(file)).hexdigest() for file in demo_files(2_000, seed)}


def _read_all(release: str) -> pd.DataFrame:
    frames = []
    for file in demo_files(_ROWS, 7, release=release):
        if not file.rows:
            continue
        capture = describe_capture(file.path)
        assert isinstance(capture, Capture), capture
        frame = pd.read_csv(io.BytesIO(_bytes(file)), float_precision="round_trip")
        assert tuple(frame.columns) == source_header(release)
        assert len(frame) == file.rows
        facts = {"attack": capture.attack, "category": capture.category, "split": capture.split}
        frames.append(frame.assign(path=file.path, **facts))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def v1() -> pd.DataFrame:
    return _read_all("v1")


@pytest.fixture(scope="module")
def v2() -> pd.DataFrame:
    return _read_all("v2")


@pytest.fixture(scope="module")
def honest_verdicts(v1: pd.DataFrame) -> Verdicts:
    return _verdicts(v1, "attack", _names("v1", leaks=False))


@pytest.fixture(scope="module")
def read(v1: pd.DataFrame) -> Read:
    return lambda name: v1[v1.path == f"{_TRAIN}/{name}_train.pcap.csv"]


def _verdicts(flows: pd.DataFrame, label: str, columns: list[str]) -> Verdicts:
    """True and predicted labels of the test rows."""
    train, test = flows[flows.split == "train"], flows[flows.split == "test"]
    forest = RandomForestClassifier(40, n_jobs=2, random_state=0).fit(train[columns].to_numpy(), train[label])
    return test[label], pd.Series(forest.predict(test[columns].to_numpy()), test.index)


def _macro_f1(flows: pd.DataFrame, label: str, columns: list[str]) -> float:
    return float(f1_score(*_verdicts(flows, label, columns), average="macro"))


def _names(release: str, *, leaks: bool) -> list[str]:
    return [getattr(c, release) for c in columns_of(release) if leaks or c.leak is None]


def test_same_seed_same_bytes_and_another_seed_other_bytes() -> None:
    first, again, other = _digests(0), _digests(0), _digests(1)

    assert first == again
    assert list(first) == list(other)
    assert [path for path in first if first[path] == other[path]] == []


def test_a_file_reads_the_same_twice_and_in_any_order() -> None:
    files = list(demo_files(3_000, 5))
    backwards = {file.path: _bytes(file) for file in reversed(files)}

    assert {file.path: _bytes(file) for file in files} == backwards


def test_the_first_file_says_that_all_is_synthetic() -> None:
    note = next(demo_files(3_000, 5))

    assert note.path == "SYNTHETIC.txt"
    assert "synthetic demo data" in _bytes(note).decode()
    assert "3000 rows, seed 5" in _bytes(note).decode()


def test_files_end_lines_as_the_real_ones_do() -> None:
    for file in list(demo_files(3_000, 5))[1:4]:
        content = _bytes(file)
        assert content.startswith(",".join(source_header("v1")).encode() + b"\n")
        assert content.endswith(b"\n")
        assert content.count(b"\n") == file.rows + 1
        assert b"\r" not in content


@pytest.mark.parametrize("release", ["v1", "v2"])
def test_every_number_is_finite(release: str, request: pytest.FixtureRequest) -> None:
    flows = request.getfixturevalue(release)

    assert len(flows) == _ROWS
    assert np.isfinite(flows[_names(release, leaks=True)].to_numpy(dtype=float)).all()


@pytest.mark.parametrize("release", ["v1", "v2"])
@pytest.mark.parametrize("megabytes", [5, 20])
def test_rows_for_bytes_is_within_five_percent(release: str, megabytes: int) -> None:
    files = demo_files(rows_for_bytes(megabytes * 10**6, release=release), 3, release=release)

    assert sum(len(chunk) for file in files for chunk in file.chunks()) == pytest.approx(megabytes * 10**6, rel=0.05)


def test_an_unknown_release_and_a_negative_seed_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown release 'v3'.*v1, v2"):
        demo_files(3_000, 0, release="v3")
    with pytest.raises(ConfigError, match="must not be negative"):
        demo_files(3_000, -1)


def test_iat_of_v1_is_a_clock_that_tells_classes_apart(read: Read) -> None:
    flood, scan = read("TCP_IP-DDoS-UDP1"), read("Recon-Port_Scan")

    assert flood.IAT.iloc[:-1].between(8.4e7, 8.6e7).all()
    assert scan.IAT.iloc[1:-1:2].between(1.69e8, 1.70e8).all()
    assert (scan.IAT.iloc[0:-1:2].abs() <= 60).all()
    assert read("TCP_IP-DDoS-TCP4").IAT.iloc[:-1].max() < flood.IAT.iloc[:-1].min()


def test_number_and_weight_tell_the_window_size(read: Read) -> None:
    flood, benign = read("TCP_IP-DoS-SYN1").iloc[:-1], read("Benign").iloc[:-1]

    assert set(flood.Number) == {9.5} and set(flood.Weight) == {141.55}
    assert benign.Number.tolist()[:4] == [5.5, 13.5, 5.5, 13.5]
    assert set(benign.Weight) == {38.5, 244.6}


def test_the_last_window_of_a_capture_is_short(v1: pd.DataFrame) -> None:
    wifi = v1[~v1.attack.str.startswith("Bluetooth")]
    last = wifi.groupby("path").tail(1)
    others = wifi.drop(last.index)

    assert set(others.Number) == {5.5, 9.5, 13.5}
    assert (last.Number < 5.5).all()


def test_v1_repeats_itself_in_the_columns_that_the_real_release_repeats(v1: pd.DataFrame) -> None:
    wifi = v1[~v1.attack.str.startswith("Bluetooth")]

    assert (wifi.Srate == wifi.Rate).all()
    assert (wifi.Drate == 0).all()
    assert (v1[v1.attack == "ARP_Spoofing"].IPv == v1[v1.attack == "ARP_Spoofing"].LLC).all()
    np.testing.assert_allclose(wifi.Radius, np.sqrt(2) * wifi.Std, rtol=1e-12)
    np.testing.assert_allclose(wifi.Weight[wifi.Number == 5.5], 38.5)
    assert (wifi.Covariance >= wifi.Std**2 * (1 - 1e-9)).all()
    for name in ("ece_flag_number", "cwr_flag_number", "Telnet", "SMTP", "IRC"):
        assert (v1[name] == 0).all()


def test_lengths_are_in_order(v1: pd.DataFrame) -> None:
    wifi = v1[~v1.attack.str.startswith("Bluetooth")]

    assert (wifi.Min <= wifi.AVG + 1e-9).all()
    assert (wifi.Max + 1e-9 >= wifi.AVG).all()
    assert wifi.Variance.between(0, 1).all()


def test_bluetooth_number_is_the_row_index(v1: pd.DataFrame) -> None:
    for _, capture in v1[v1.attack.str.startswith("Bluetooth")].groupby("path"):
        assert capture.Number.tolist() == [5.5 + 10 * row for row in range(len(capture))]


def test_floods_repeat_rows_and_more_so_without_the_clock(v1: pd.DataFrame) -> None:
    train = v1[v1.split == "train"]
    numbers = train[_names("v1", leaks=True)]
    exact = numbers.duplicated()
    as_float32 = numbers.astype("float32").duplicated()
    without_clock = numbers.drop(columns="IAT").duplicated()

    assert 0.02 < exact.mean() < as_float32.mean() <= without_clock.mean()
    assert 0.25 < as_float32.mean() < 0.5
    assert as_float32[train.attack == "DDoS-ICMP"].mean() > 0.8
    assert as_float32[train.attack.isin(["Benign", "DDoS-UDP", "DoS-UDP"])].mean() < 0.01


def test_whole_numbers_of_v2_are_written_without_a_point() -> None:
    file = next(file for file in demo_files(3_000, 5, release="v2") if "ARP_Spoofing_train" in file.path)
    row = dict(zip(source_header("v2"), _bytes(file).decode().splitlines()[1].split(","), strict=True))

    assert row["Number"] == "10"
    assert all("." not in row[name] for name in ("Protocol Type", "ack_count", "Tot sum", "Min", "Max"))
    assert "." in row["AVG"] and "." in row["TCP"]


def test_v2_computes_over_the_window_itself(v2: pd.DataFrame) -> None:
    wifi = v2[~v2.attack.str.startswith("Bluetooth")]

    np.testing.assert_allclose(wifi.AVG, wifi["Tot sum"] / wifi.Number)
    np.testing.assert_allclose(wifi.Variance, wifi.Std**2)
    np.testing.assert_allclose(wifi.IAT * wifi.Rate, 1.0)
    assert (wifi.groupby("path").Number.first().isin([10, 100])).mean() == 1.0


def test_a_forest_finds_the_attacks_hard_and_the_leaks_helpful(v1: pd.DataFrame, honest_verdicts: Verdicts) -> None:
    honest = float(f1_score(*honest_verdicts, average="macro"))
    leaking = _macro_f1(v1, "attack", _names("v1", leaks=True))

    assert 0.80 < honest < 0.93
    assert honest + 0.03 < leaking < 0.985


def test_attacks_are_mistaken_for_what_they_are_mistaken_for_in_reality(honest_verdicts: Verdicts) -> None:
    truth, verdict = honest_verdicts
    mistakes = pd.crosstab(truth[truth != verdict], verdict[truth != verdict])

    for protocol in ("TCP", "SYN", "UDP", "ICMP"):
        assert mistakes.loc[f"DoS-{protocol}"].idxmax() == f"DDoS-{protocol}"
        assert mistakes.loc[f"DDoS-{protocol}"].idxmax() == f"DoS-{protocol}"
    assert mistakes.loc["ARP_Spoofing"].idxmax() == "Benign"
    assert mistakes.loc["Recon-OS_Scan"].idxmax() == "Recon-Port_Scan"
    assert mistakes.loc["MQTT-DDoS-Publish_Flood"].idxmax() == "MQTT-DoS-Publish_Flood"


def test_fewer_classes_are_easier(v1: pd.DataFrame, honest_verdicts: Verdicts) -> None:
    columns = _names("v1", leaks=False)
    flows = v1.assign(is_benign=v1.category == "Benign")

    attack = float(f1_score(*honest_verdicts, average="macro"))
    assert attack < _macro_f1(flows, "category", columns)
    assert attack < _macro_f1(flows, "is_benign", columns)
