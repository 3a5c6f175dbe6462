"""Rows in pieces arrive whole, whoever reads them and however they were cut, and what is wrong with a file is said."""

import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iomt_ids.contract.errors import LaunchError
from iomt_ids.models.histogram.pieces import read_pieces, rows_of, write_piece
from tests.models.test_histogram_forest import toy


def rows_with_ids(rows=400, seed=0):
    """Ids, labels, weights and columns; and what bins mean."""
    binned = toy(rows=rows, seed=seed)
    return (np.arange(rows) * 7 + seed, binned.labels, 1 + np.arange(rows) % 5, binned.columns), (binned.edges, binned.classes)


def as_rows(*sets):
    """Each row as bytes, in an order of their own."""
    return sorted(
        b"".join(np.ascontiguousarray(array[..., i]).tobytes() for array in (b.marks, b.labels, b.weights, b.columns))
        for b in sets for i in range(b.labels.size)
    )


def cut(arrays, ends):
    """Blocks of rows that end there."""
    return [[np.ascontiguousarray(a[..., i:j]) for a in arrays] for i, j in pairwise([0, *sorted(ends), arrays[0].size])]


def piece_of(blocks, means, parts):
    """Its content, and what is told of it."""
    file = io.BytesIO()
    piece = write_piece(file, blocks, *means, parts)
    return file.getvalue(), piece


@given(
    st.lists(st.lists(st.integers(0, 400), max_size=3), max_size=3), st.integers(1, 9), st.integers(1, 5), st.booleans()
)
def test_ranks_have_all_rows_once_however_they_were_cut(tmp_path_factory, ends, parts, ranks, in_files):
    arrays, means = rows_with_ids()
    of_pieces = cut(arrays, [end for some in ends[:-1] for end in some[:1]])
    blocks = [cut(piece, [min(end, piece[0].size) for end in some]) for piece, some in zip(of_pieces, [*ends, []], strict=False)]
    pieces = [piece_of(some, means, parts) for some in blocks]
    held = [(content, piece.starts) for content, piece in pieces]
    if in_files:
        folder = tmp_path_factory.mktemp("pieces")
        for number, (content, _) in enumerate(held):
            (folder / str(number)).write_bytes(content)
        held = [(str(folder / str(number)), starts) for number, (_, starts) in enumerate(held)]
    found = [read_pieces(held, *means, rank, ranks) for rank in range(ranks)]
    content, whole = piece_of([arrays], means, 1)
    wanted = read_pieces([(content, whole.starts)], *means)
    assert as_rows(*found) == as_rows(wanted) and rows_of(held) == 400
    assert wanted.weights.sum() == arrays[2].sum() and wanted.classes == means[1] and wanted.weights.dtype == np.int64
    assert [sum(piece.hashes[i] for _, piece in pieces) % 2**64 for i in range(2)] == list(whole.hashes)


def test_parts_are_alike():
    arrays, means = rows_with_ids(rows=20_000)
    content, piece = piece_of([arrays], means, 8)
    found = [read_pieces([(content, piece.starts)], *means, rank, 8) for rank in range(8)]
    for part in found:
        assert abs(part.labels.size - 2500) < 250
        assert np.abs(np.bincount(part.labels, minlength=4) - np.bincount(arrays[1], minlength=4) / 8).max() < 125


@pytest.mark.parametrize("place", range(4))
def test_another_row_has_another_hash(place):
    arrays, means = rows_with_ids()
    other = [array.copy() for array in arrays]
    other[place][..., 7] += 1
    (_, one), (_, another) = piece_of([arrays], means, 1), piece_of([other], means, 1)
    assert all(a != b for a, b in zip(one.hashes, another.hashes, strict=True))


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda path: path.unlink(), "cannot be read here .*every node must see the run's folder"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), "ends too early: 7599 bytes, of 7600"),
], ids=["gone", "cut off"])
def test_a_file_that_is_not_whole_is_named(tmp_path, spoil, said):
    arrays, means = rows_with_ids()
    content, piece = piece_of([arrays], means, 1)
    path = tmp_path / "piece"
    path.write_bytes(content)
    spoil(path)
    with pytest.raises(LaunchError, match=f"{path} {said}"):
        read_pieces([(str(path), piece.starts)], *means)


def test_no_rows_and_features_without_thresholds_are_no_error():
    (ids, *arrays), (edges, classes) = rows_with_ids()
    none = [ids[:0], *(np.ascontiguousarray(a[..., :0]) for a in arrays)]
    content, empty = piece_of([none], (edges, classes), 3)
    assert content == b"" and empty.starts == [0] * 4
    assert read_pieces([], edges, classes).columns.shape == read_pieces([(b"", [0] * 4)], edges, classes).columns.shape == (6, 0)
    flat = [np.empty(0)] * 6
    content, piece = piece_of([(ids, *arrays[:2], np.zeros_like(arrays[2]))], (flat, classes), 1)
    assert np.array_equal(np.sort(read_pieces([(content, piece.starts)], flat, classes).labels), np.sort(arrays[0]))
