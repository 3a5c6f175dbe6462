"""The committed data dictionary is what the contract says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from iomt_ids.contract.attacks import ATTACKS
from iomt_ids.contract.dictionary import data_dictionary
from iomt_ids.contract.flows import FLOW_COLUMNS
from iomt_ids.contract.tables import TABLES

_COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "data-dictionary.md"


def test_the_committed_dictionary_is_the_newest() -> None:
    newest = _COMMITTED.read_text(encoding="utf-8") == data_dictionary()
    assert newest, f"run: {sys.executable} -m iomt_ids.contract.dictionary > docs/data-dictionary.md"


def test_the_command_that_it_names_writes_it() -> None:
    command = [sys.executable, "-m", "iomt_ids.contract.dictionary"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == data_dictionary()


def test_every_column_table_and_class_is_in_it_once() -> None:
    lines = data_dictionary().splitlines()
    for column in FLOW_COLUMNS:
        (line,) = [text for text in lines if text.startswith(f"| `{column.name}` |")]
        assert column.meaning in line
        assert (column.leak or "") in line
    for attack in ATTACKS:
        (line,) = [text for text in lines if text.startswith(f"| {attack.id} | `{attack.name}` |")]
        assert attack.sentence in line
    for table in TABLES:
        assert lines.count(f"### `{table.name}`") == 1
