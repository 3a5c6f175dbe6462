"""docs/data-dictionary.md, written from the contract, so that it cannot say anything else.

    python -m iomt_ids.contract.dictionary > docs/data-dictionary.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES
from iomt_ids.contract.flows import FLOW_COLUMNS, PAST_STATISTICS, RELEASES, past_column, source_header
from iomt_ids.contract.tables import TABLES, Table

_HEAD = """# Data dictionary

Generated from `lib/iomt_ids/contract`; a test fails when it is not the newest. To write it again:

    .venv/bin/python -m iomt_ids.contract.dictionary > docs/data-dictionary.md

A row is not one flow: it is the mean over a window of 10 or 100 consecutive packets of one capture, as CICIoMT2024
publishes them (Dadkhah et al., Internet of Things 28, 2024, 101351). Files carry no labels; a row's class is its
file's name."""


def data_dictionary() -> str:
    """The data dictionary as Markdown: tables, flow columns and classes.

    Returns
    -------
    str
        The whole file; the same for the same contract.
    """
    parts = [_HEAD, "## Tables", *map(_table_section, TABLES), _flow_section(), _class_section()]
    return "\n\n".join(parts) + "\n"


def _table_section(table: Table) -> str:
    flow_names = {c.name for c in FLOW_COLUMNS}
    rows: list[Sequence[str]] = []
    for field in table.schema.fields:
        if field.name not in flow_names:
            rows.append((f"`{field.name}`", field.dataType.simpleString(), "yes" if field.nullable else "no"))
        elif field.name == FLOW_COLUMNS[0].name:
            rows.append((f"the {len(FLOW_COLUMNS)} flow columns below", "double", "yes"))
    partitions = f" Partitioned by {', '.join(f'`{p}`' for p in table.partitions)}." if table.partitions else ""
    sentence = table.sentence[0].upper() + table.sentence[1:]
    return f"### `{table.name}`\n\n{sentence}.{partitions}\n\n{_grid(('column', 'type', 'may be null'), rows)}"


def _flow_section() -> str:
    rows = [
        (f"`{c.name}`", c.unit, _code(c.v1), _code(c.v2), c.meaning, c.leak or "") for c in FLOW_COLUMNS
    ]
    counts = ", ".join(f"{release} has {len(source_header(release))} columns" for release in RELEASES)
    return (
        f"## Flow columns\n\nTwo incompatible releases exist: {counts}. A column that means something else in the other"
        " release is another column here, null where the release lacks it. A column with an entry under *leak* is left"
        " out of the feature set `leak_free`.\n\n"
        + _grid(("column", "unit", "in v1", "in v2", "meaning", "leak"), rows)
        + "\n\nFeature set `past` adds, of each column without a leak, "
        + " and ".join(f"`{past_column('<column>', s)}`, the {words}" for s, words in PAST_STATISTICS.items())
        + ", over the window and those before it in its capture. In `gold.features` they are one array, `past`, first all of"
        + " one kind, then all of the other; it is null unless a detector asks for it."
    )


def _class_section() -> str:
    rows = [
        (str(a.id), f"`{a.name}`", str(CATEGORIES.index(a.category)), a.category, a.protocol, f"`{a.capture}`",
         f"{a.sentence}; to see it itself would need {a.needed}" if a.needed else a.sentence)
        for a in ATTACKS
    ]
    return (
        "## Classes\n\n`attack_id` and `category_id` are the indices below; `binary_id` is 0 for the category Benign"
        " and 1 for every other. The capture pattern matches the whole file name without `_train` or `_test` and"
        " `.pcap.csv`.\n\n"
        + _grid(("attack_id", "name", "category_id", "category", "protocol", "capture pattern", "what it is"), rows)
    )


def _code(name: str | None) -> str:
    return f"`{name}`" if name is not None else ""


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(data_dictionary())
