"""Lines of plain numbers to columns of doubles, compiled; what is not plain is left to `parse`.

Plain is ``-?digits[.digits][e[+-]digits]`` with at most 19 significant digits, separated by commas, ended by LF or CR LF.
Its nearest double is found by Clinger's exact product (1990) or by 128-bit powers of five (Lemire, "Number parsing at a
gigabyte per second", 2021, algorithm of Eisel and Lemire); the few decimals which that leaves undecided are not plain.
Text is looked at eight bytes a time, as one word whose lowest byte comes first: digits are found and turned into a number by
arithmetic on the word (Langdale and Lemire, "Parsing gigabytes of JSON per second", 2019, use the same).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from iomt_ids.distributed.compiled import compiled, inlined

_LEAST_POWER, _MOST_POWER = -64, 64
_COMMA, _MINUS, _PLUS, _POINT, _LF, _CR, _ZERO, _E = 44, 45, 43, 46, 10, 13, 48, 101
_MOST_DIGITS = 19  # what fits in 64 bits
_NONE, _ONE, _TWO, _THREE, _FOUR, _EIGHT, _TEN, _63, _64, _BYTE = (np.uint64(n) for n in (0, 1, 2, 3, 4, 8, 10, 63, 64, 255))
_EXACT, _SIGN = np.uint64(1 << 53), np.uint64(1 << 63)
_NOWHERE = np.uint64(2**64 - 1)
# In each of eight bytes: its halves; the upper half of a digit; what added leaves that of a digit as it is, but not of ":" to "?".
_UPPER, _LOWER, _DIGIT, _SIX = (np.uint64(byte * 0x0101010101010101) for byte in (0xF0, 0x0F, 0x30, 0x06))
# Eight digits to four pairs, two fours, one number: each step adds ten, a hundred, ten thousand times what stands before.
_PAIRS, _TENS = np.uint64(0x00FF00FF00FF00FF), np.uint64(10 * 2**8 + 1)
_FOURS, _HUNDREDS = np.uint64(0x0000FFFF0000FFFF), np.uint64(100 * 2**16 + 1)
_TEN_THOUSANDS, _16, _32 = np.uint64(10_000 * 2**32 + 1), np.uint64(16), np.uint64(32)
# "d.d,d.d,": where its digits are, and what else is in it.
_LANES, _TWO_SHORT = _PAIRS, np.uint64(0x2C002E002C002E00)
_TENTHS = np.array([i / 10 for i in range(100)])
_POWERS_OF_TEN = np.array([10.0**i for i in range(23)])
_SHIFTS = np.array([10**i for i in range(9)], np.uint64)


def _powers_of_five() -> np.ndarray:
    """The leading 128 bits of 5**q, cut off for q >= 0 and rounded up below; shape (powers, 2), high word first."""
    words = np.empty((_MOST_POWER - _LEAST_POWER + 1, 2), np.uint64)
    for q in range(_LEAST_POWER, _MOST_POWER + 1):
        if q >= 0:
            power = 5**q
            power = power << 128 >> power.bit_length()
        else:
            bits = (5**-q).bit_length() + 127
            power = -(-(1 << bits) // 5**-q)
        words[q - _LEAST_POWER] = power >> 64, power & (2**64 - 1)
    return words


_FIVES = _powers_of_five()


def _read(width: Any, result: Any) -> Any:
    def load(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], width.as_pointer()), align=1)

    return result(types.uint64), load


@intrinsic
def _byte_at(context: Any, address: Any) -> Any:
    """One byte of memory."""
    return _read(ir.IntType(8), types.uint8)


@intrinsic
def _word_at(context: Any, address: Any) -> Any:
    """Eight bytes of memory as one word."""
    return _read(ir.IntType(64), types.uint64)


@intrinsic
def _double_at(context: Any, address: Any) -> Any:
    """Eight bytes of memory as a double."""
    return _read(ir.DoubleType(), types.float64)


@intrinsic
def _put(context: Any, address: Any, value: Any) -> Any:
    """Write a double into memory."""

    def store(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.DoubleType().as_pointer()), align=8)
        return target.get_dummy_value()

    return types.void(types.uint64, types.float64), store


@intrinsic
def _as_double(context: Any, word: Any) -> Any:
    """The double with these bits."""

    def cast(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), cast


@intrinsic
def _upper_half(context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of a product."""

    def multiply(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(factor, wide) for factor in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), multiply


@intrinsic
def _zeros_below(context: Any, word: Any) -> Any:
    """Bits below the lowest one that is set; 64 if none is."""
    return types.uint64(types.uint64), lambda target, builder, signature, arguments: builder.cttz(arguments[0], ir.IntType(1)(0))


@intrinsic
def _zeros_above(context: Any, word: Any) -> Any:
    """Bits above the highest one that is set; 64 if none is."""
    return types.uint64(types.uint64), lambda target, builder, signature, arguments: builder.ctlz(arguments[0], ir.IntType(1)(0))


@compiled
def nearest_double(digits: np.uint64, power: int) -> float:
    """The double nearest to digits * 10**power; nan if that is not decided here.

    Parameters
    ----------
    digits : uint64
    power : int
    """
    if digits <= _EXACT and -22 <= power <= 22:
        exact = np.float64(digits)
        return exact / _POWERS_OF_TEN[-power] if power < 0 else exact * _POWERS_OF_TEN[power]
    if digits == _NONE or power < _LEAST_POWER or power > _MOST_POWER:
        return np.nan
    zeros: Any = _zeros_above(digits)  # type: ignore[call-arg]
    scaled = digits << zeros
    five = _FIVES[power - _LEAST_POWER, 0]
    high: Any = _upper_half(scaled, five)
    low = scaled * five
    if (high & np.uint64(0x1FF)) == np.uint64(0x1FF):
        # The bits that were cut off could carry: the lower half of the power decides.
        more: Any = _upper_half(scaled, _FIVES[power - _LEAST_POWER, 1])
        low += more
        if low < more:
            high += _ONE
        if low == np.uint64(0xFFFFFFFFFFFFFFFF) and (power < -27 or power > 55):
            return np.nan
    upper = np.int64(high >> _63)
    mantissa = high >> np.uint64(upper + 9)
    exponent = ((217706 * power) >> 16) + 63 + upper - np.int64(zeros) + 1023
    if exponent <= 0 or exponent >= 2046:
        return np.nan
    halfway = (mantissa << np.uint64(upper + 9)) == high and (mantissa & np.uint64(3)) == _ONE
    if halfway and low <= _ONE and -4 <= power <= 23:
        mantissa &= ~_ONE  # a tie goes to the even one, which is below
    mantissa = (mantissa + (mantissa & _ONE)) >> _ONE
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        exponent += 1
    return _as_double((np.uint64(exponent) << np.uint64(52)) | (mantissa & np.uint64((1 << 52) - 1)))


@inlined
def _not_digits(word: Any) -> Any:
    """Bits in every byte that is no digit; those above the lowest such byte may be wrong if that is 0xFA or more."""
    return ((word & _UPPER) ^ _DIGIT) | (((word + _SIX) & _UPPER) ^ _DIGIT)


@inlined
def _append_digits(at: Any, number: Any) -> Any:
    """Write the digits that stand from a place on behind those of a number, and give the place behind them."""
    while True:
        word: Any = _word_at(at)  # type: ignore[call-arg]
        count: Any = _zeros_below(_not_digits(word)) >> _THREE
        if count == _NONE:
            return number, at
        word = (word << (_64 - _EIGHT * count)) & _LOWER
        word = ((word * _TENS) >> _EIGHT) & _PAIRS
        word = ((word * _HUNDREDS) >> _16) & _FOURS
        number = number * _SHIFTS[count] + ((word * _TEN_THOUSANDS) >> _32)
        at += count
        if count < _EIGHT:
            return number, at


@compiled
def _exponent(at: np.uint64) -> Any:
    """The whole number behind an e, and the place behind it; the place `at` again if there is none."""
    start: Any = at
    sign: Any = _byte_at(at)  # type: ignore[call-arg]
    if sign in (_MINUS, _PLUS):
        at += _ONE
    mark: Any = at
    digits, at = _append_digits(at, _NONE)
    # Beyond any double; more digits than 64 bits hold would be another number.
    exponent: Any = np.int64(digits) if at - mark <= _FOUR else 10_000
    return -exponent if sign == _MINUS else exponent, start if at == mark else at


@compiled
def _significant(first: np.uint64, count: int) -> int:
    """So many digits stand from a place on, a point among them: without leading zeros, if there are too many else."""
    while count > _MOST_DIGITS:
        byte: Any = _byte_at(first)  # type: ignore[call-arg]
        if byte not in (_ZERO, _POINT):
            break
        count -= np.int64(byte == _ZERO)
        first += _ONE
    return count


@inlined
def _read_number(at: Any) -> Any:
    """A plain number and the place behind it; `_NOWHERE` if it is not plain.

    A line end stops every loop, so that no number reaches beyond the last byte, which is one.
    """
    negative: Any = _byte_at(at) == _MINUS  # type: ignore[call-arg]
    first: Any = at + _ONE if negative else at
    digits, at = _append_digits(first, _NONE)
    count: Any = np.int64(at - first)
    power: Any = 0
    if _byte_at(at) == _POINT:
        point: Any = at + _ONE
        digits, at = _append_digits(point, digits)
        power = -np.int64(at - point)
        count -= power
    if count > _MOST_DIGITS:
        count = _significant(first, count)
    value = np.nan
    if 0 < count <= _MOST_DIGITS:
        is_whole = True
        if _byte_at(at) | 32 == _E:
            exponent, behind = _exponent(at + _ONE)
            is_whole = behind != at + _ONE
            at, power = behind, power + exponent
        if is_whole:
            value = 0.0 if digits == _NONE else nearest_double(digits, power)
    # Nothing plain is nan: nan says that it is not.
    return -value if negative else value, at if value == value else _NOWHERE


@inlined
def _keep(value: Any, into: Any, limits: Any) -> Any:
    """Put a value into memory, if it lies between the two numbers at `limits`; whether it does."""
    if value < _double_at(limits) or value > _double_at(limits + _EIGHT):  # type: ignore[call-arg]
        return False
    _put(into, value)
    return True


@compiled
def _read_line(at: np.uint64, into: np.uint64, stride: np.uint64, limits: np.uint64, columns: np.uint64) -> Any:
    """Put a plain line's values into memory and give the place of its LF; `_NOWHERE` if it is not plain, or not possible.

    All places are addresses: numba counts who refers to an array, and would do so at every number.
    """
    left = columns
    while left > _NONE:
        word: Any = _word_at(at)  # type: ignore[call-arg]
        # Three fields of four are a digit, a point and a digit, and mostly the next one is too.
        if left > _TWO and (word & ~_LANES) == _TWO_SHORT and (_not_digits(word) & _LANES) == _NONE:
            lanes = word & _LANES & _LOWER
            tenths = lanes * _TEN + (lanes >> _16)
            value: Any = _TENTHS[tenths & _BYTE]
            if not _keep(value, into, limits):
                return _NOWHERE
            into += stride
            limits += _16
            left -= _ONE
            value = _TENTHS[(tenths >> _32) & _BYTE]
            at += _EIGHT
        else:
            value, at = _read_number(at)
            if at == _NOWHERE:
                return _NOWHERE
            at += np.uint64(left == _ONE and _byte_at(at) == _CR)
            if _byte_at(at) != (_LF if left == _ONE else _COMMA):
                return _NOWHERE
            at += _ONE
        if not _keep(value, into, limits):
            return _NOWHERE
        into += stride
        limits += _16
        left -= _ONE
    return at - _ONE


@compiled
def _scan(
    at: np.uint64, size: int, before: int, found: Any, values: np.ndarray, lines: np.ndarray, odd: np.ndarray,
    limits: np.ndarray, ordered: np.ndarray, slack: float,
) -> Any:
    """Scan the lines of a part of a text, see `scan_lines`; ``found`` are rows, other lines and lines before it."""
    rows, others, line = found
    columns, stride, width = np.uint64(values.shape[0]), np.uint64(values.strides[0]), np.uint64(values.strides[1])
    into, bounds = np.uint64(values.ctypes.data), np.uint64(limits.ctypes.data)
    start, last = at - np.uint64(before), at + np.uint64(size)
    while at < last:
        end: Any = _read_line(at, into + width * np.uint64(rows), stride, bounds, columns)
        if end != _NOWHERE:
            low, middle, high = values[ordered[0], rows], values[ordered[1], rows], values[ordered[2], rows]
            if not (low <= middle + slack * high and middle <= high + slack * high):
                end = _NOWHERE
        if end != _NOWHERE:
            lines[rows] = line
            rows += 1
        else:
            end = at
            while _byte_at(end) != _LF:  # type: ignore[call-arg]
                end += _ONE
            odd[others, 0], odd[others, 1], odd[others, 2] = line, at - start, end - start
            others += 1
        at = end + _ONE
        line += 1
    return rows, others, line


@compiled
def scan_lines(
    text: np.ndarray, rest: np.ndarray, values: np.ndarray, lines: np.ndarray, odd: np.ndarray, limits: np.ndarray,
    ordered: np.ndarray, slack: float,
) -> Any:
    """Read every plain line.

    Parameters
    ----------
    text : ndarray of uint8
        Whole lines; the last byte is LF.
    rest : ndarray of uint8
        Its last lines, at least those with less than eight bytes behind them, and eight bytes more: what is read is read in words.
    values : ndarray of float64, shape (columns, lines)
        Receives the rows.
    lines : ndarray of int64, shape (lines,)
        Receives the line of each row, counted from 0.
    odd : ndarray of int64, shape (lines, 3)
        Receives line, first byte and end of every other line.
    limits : ndarray of float64, shape (columns, 2)
        The least and the most that a column may hold.
    ordered : ndarray of int64, shape (3,)
        Columns of a least, a mean and a greatest value that must be in this order.
    slack : float
        Share of the greatest by which they may miss it.

    Returns
    -------
    (int, int)
        Rows, and other lines.
    """
    tail = rest.size - 8
    cut = text.size - tail
    found = _scan(np.uint64(text.ctypes.data), cut, 0, (0, 0, 0), values, lines, odd, limits, ordered, slack)
    found = _scan(np.uint64(rest.ctypes.data), tail, cut, found, values, lines, odd, limits, ordered, slack)
    return found[0], found[1]
