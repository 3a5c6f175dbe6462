"""The errors we foresee. Every job turns one of these into one message and exit status 2."""

from __future__ import annotations

from collections.abc import Iterable


class IomtIdsError(Exception):
    """Something the user can mend: bad input, bad configuration, a missing slot."""


class ConfigError(IomtIdsError):
    """The configuration names an unknown key, a wrong type or an impossible value."""


class ContractError(IomtIdsError):
    """Data does not have the shape that its table or step declares."""


class SourceError(IomtIdsError):
    """Input files cannot be used: unknown name, wrong header, empty, absent."""


class LaunchError(IomtIdsError):
    """A distributed run cannot start, or one of its ranks died."""


class RankLostError(LaunchError):
    """A rank or its executor died while it worked: the same work may succeed when it is started again."""


class BusyError(IomtIdsError):
    """Another process holds the lock this one needs."""


def raise_all(problems: Iterable[str], error: type[IomtIdsError], heading: str) -> None:
    """Raise one `error` that lists every problem, or return if there is none.

    Parameters
    ----------
    problems : iterable of str
        One sentence a problem, each naming its place.
    error : type
        The class to raise.
    heading : str
        What was being done, e.g. ``"cannot ingest data/"``.

    Raises
    ------
    IomtIdsError
        The given class, if ``problems`` is not empty.

    Examples
    --------
    >>> raise_all([], SourceError, "cannot ingest")
    >>> raise_all(["a.csv: empty", "b.csv: no header"], SourceError, "cannot ingest")
    Traceback (most recent call last):
    iomt_ids.contract.errors.SourceError: cannot ingest: 2 problems
      a.csv: empty
      b.csv: no header
    """
    found = list(problems)
    if not found:
        return
    if len(found) == 1:
        raise error(f"{heading}: {found[0]}")
    raise error(f"{heading}: {len(found)} problems\n" + "\n".join(f"  {p}" for p in found))
