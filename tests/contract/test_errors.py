"""One message that names everything wrong."""

from __future__ import annotations

import pytest

from iomt_ids.contract import errors
from iomt_ids.contract.errors import IomtIdsError, SourceError, raise_all


def test_no_problem_raises_nothing() -> None:
    raise_all(iter(()), SourceError, "cannot ingest")


def test_one_problem_is_one_line() -> None:
    with pytest.raises(SourceError) as caught:
        raise_all(["a.csv: empty"], SourceError, "cannot ingest")
    assert str(caught.value) == "cannot ingest: a.csv: empty"


def test_all_problems_are_named_at_once_in_their_order() -> None:
    with pytest.raises(SourceError) as caught:
        raise_all((f"{name}: empty" for name in "bca"), SourceError, "cannot ingest")
    assert str(caught.value) == "cannot ingest: 3 problems\n  b: empty\n  c: empty\n  a: empty"


def test_every_foreseen_error_is_caught_by_the_one_name_that_jobs_catch() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    assert {k.__name__ for k in kinds} >= {"ConfigError", "ContractError", "SourceError", "LaunchError", "BusyError"}
    assert all(issubclass(kind, IomtIdsError) for kind in kinds)
