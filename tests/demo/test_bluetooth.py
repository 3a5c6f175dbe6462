"""Bluetooth rows count on from block to block."""

from __future__ import annotations

import numpy as np
import pytest

from iomt_ids.demo.bluetooth import draw_bluetooth


@pytest.mark.parametrize("attack", ["Bluetooth-Benign", "Bluetooth-DoS"])
def test_the_counters_of_a_later_block_go_on_where_the_earlier_stopped(attack: str) -> None:
    columns = draw_bluetooth(attack, 8_192, 50, 1.0, "v1", np.random.default_rng(0))

    assert columns["buffer_packets"].tolist() == [5.5 + 10 * row for row in range(8_192, 8_242)]
    np.testing.assert_allclose(
        columns["length_sum_bytes"], columns["length_mean_bytes"] * columns["buffer_packets"], rtol=1e-6
    )


def test_a_flood_has_lulls_that_look_like_ordinary_traffic() -> None:
    flood = draw_bluetooth("Bluetooth-DoS", 0, 4_000, 1.0, "v1", np.random.default_rng(0))
    benign = draw_bluetooth("Bluetooth-Benign", 0, 4_000, 1.0, "v1", np.random.default_rng(0))

    assert set(benign["length_max_bytes"]) == {262.0}
    assert 0.02 < np.mean(flood["length_max_bytes"] == 262.0) < 0.12
