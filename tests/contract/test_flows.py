"""Every flow column once, and the two headers that follow from it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from iomt_ids.contract.flows import FEATURE_SETS, FLOW_COLUMNS, RELEASES, columns_of, feature_names, source_header

# As the publisher writes them.
V1 = (
    "Header_Length,Protocol Type,Duration,Rate,Srate,Drate,fin_flag_number,syn_flag_number,rst_flag_number,"
    "psh_flag_number,ack_flag_number,ece_flag_number,cwr_flag_number,ack_count,syn_count,fin_count,rst_count,HTTP,HTTPS,"
    "DNS,Telnet,SMTP,SSH,IRC,TCP,UDP,DHCP,ARP,ICMP,IGMP,IPv,LLC,Tot sum,Min,Max,AVG,Std,Tot size,IAT,Number,Magnitue,"
    "Radius,Covariance,Variance,Weight"
)
V2 = (
    "Header_Length,Protocol Type,Time_To_Live,Rate,fin_flag_number,syn_flag_number,rst_flag_number,psh_flag_number,"
    "ack_flag_number,ece_flag_number,cwr_flag_number,ack_count,syn_count,fin_count,rst_count,HTTP,HTTPS,DNS,Telnet,SMTP,"
    "SSH,IRC,TCP,UDP,DHCP,ARP,ICMP,IGMP,IPv,LLC,Tot sum,Min,Max,AVG,Std,Tot size,IAT,Number,Variance"
)


def test_the_headers_are_the_publishers() -> None:
    assert ",".join(source_header("v1")) == V1
    assert ",".join(source_header("v2")) == V2


def test_names_are_snake_case_and_never_given_twice() -> None:
    names = [c.name for c in FLOW_COLUMNS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_a_column_with_a_unit_has_it_in_its_name_and_every_column_has_a_sentence() -> None:
    ending = {"B": "_bytes", "s": "_s", "1/s": "_per_s", "packets": "_packets"}
    in_the_sources_words = {"radius"}
    for column in FLOW_COLUMNS:
        if column.unit in ending and column.name not in in_the_sources_words:
            assert column.name.endswith(ending[column.unit]) or column.name == "window_packets", column.name
        assert column.unit in (*ending, "1", "B^2")
        assert len(column.meaning) > 10


@pytest.mark.parametrize("release", RELEASES)
def test_columns_stand_in_the_order_of_the_header(release: str) -> None:
    assert tuple(getattr(c, release) for c in columns_of(release)) == source_header(release)


def test_a_column_that_means_something_else_in_the_other_release_is_another_column() -> None:
    ours = {release: {getattr(c, release): c.name for c in columns_of(release)} for release in RELEASES}
    changed = {"Header_Length", "Protocol Type", "Rate", "ack_count", "syn_count", "fin_count", "rst_count", "IAT",
               "Number", "Variance"}
    for source in set(ours["v1"]) & set(ours["v2"]):
        assert (ours["v1"][source] != ours["v2"][source]) == (source in changed), source


def test_the_leak_free_features_lack_what_names_the_class() -> None:
    for release, leaks in {"v1": {"IAT", "Number", "Weight"}, "v2": {"Number"}}.items():
        left_out = set(feature_names(release, "all")) - set(feature_names(release, "leak_free"))
        assert {getattr(c, release) for c in FLOW_COLUMNS if c.name in left_out} == leaks


def test_an_unknown_release_or_feature_set_is_refused() -> None:
    with pytest.raises(KeyError, match="v3"):
        source_header("v3")
    with pytest.raises(KeyError, match="unknown feature set 'some'; known: leak_free, all"):
        feature_names("v1", "some")
    assert FEATURE_SETS == ("leak_free", "all", "past")


def test_what_is_said_of_columns_holds_on_real_rows(real_data: Path) -> None:
    captures = [pd.read_csv(path) for path in sorted(real_data.glob("WiFI_and_MQTT/attacks/csv/*/*.csv"))]
    flows = pd.concat(captures)
    assert flows["Srate"].equals(flows["Rate"]) and flows["LLC"].equals(flows["IPv"]) and not flows["Drate"].any()
    for said, meant in (("Radius", flows["Std"]), ("Covariance", flows["Std"] ** 2), ("Weight", flows["Number"] ** 2)):
        assert np.corrcoef(flows[said], meant)[0, 1] > 0.98, said
    # A clock, ten or twenty times slower: every capture reads it, in the year of its recording.
    for capture in captures:
        clock = capture["IAT"][capture["IAT"] > 1e6]
        years = pd.to_datetime(np.where(clock > 1.2e8, clock * 10, clock * 20), unit="s").year
        assert len(clock) > 0.2 * len(capture) and np.mean(years == 2023) > 0.95
