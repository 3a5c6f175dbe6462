"""Binary, category, attack: one tree of classes, read from `contract.attacks`."""

from __future__ import annotations

from iomt_ids.contract.attacks import ATTACKS, CATEGORIES, TASKS, class_names


def levels_of(task: str) -> tuple[str, ...]:
    """The levels that the classes of a task lie below, coarsest first, and the task itself.

    Examples
    --------
    >>> levels_of("category")
    ('binary', 'category')
    """
    return TASKS[: TASKS.index(task) + 1]


def labels_above(task: str, level: str) -> tuple[int, ...]:
    """For each class of a task, the class of a coarser level that it belongs to.

    Parameters
    ----------
    task, level : str
        Of `TASKS`; `level` is one of ``levels_of(task)``.

    Returns
    -------
    tuple of int
        One label index of `level` a class of `task`.

    Examples
    --------
    >>> labels_above("category", "binary")
    (0, 1, 1, 1, 1, 1)
    >>> labels_above("attack", "category")[:3]
    (0, 1, 2)
    """
    if level == task:
        return tuple(range(len(class_names(task))))
    categories = tuple(CATEGORIES.index(a.category) for a in ATTACKS) if task == "attack" else tuple(range(len(CATEGORIES)))
    return categories if level == "category" else tuple(int(c > 0) for c in categories)
