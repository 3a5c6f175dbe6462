"""Lines of plain numbers to columns of doubles, compiled; what is not plain is left to `parse`.

Plain is ``-?digits[.digits][e[+-]digits]`` with at most 19 significant digits, separated by commas, ended by LF or CR LF.
Its nearest double is found by Clinger's exact product (1990) or by 128-bit powers of five (Lemire, "Number parsing at a
gigabyte per second", 2021, algorithm of Eisel and Lemire); the few decimals which that leaves undecided are not plain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from iomt_ids.distributed.compiled import compiled, inlined

_LEAST_POWER, _MOST_POWER = -64, 64
_COMMA, _MINUS, _PLUS, _POINT, _LF, _CR, _ZERO, _E = 44, 45, 43, 46, 10, 13, 48, 101
_MOST_DIGITS = 19  # what fits in 64 bits
_LOW32, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_ONE, _TEN, _48 = np.uint64(1), np.uint64(10), np.uint64(48)
_EXACT, _SIGN = np.uint64(1 << 53), np.uint64(1 << 63)
_NOWHERE = np.uint64(2**64 - 1)
# "0.0," in memory, its digits taken out.
_SHORT, _SHORT_MASK, _BYTE = np.uint32(0x2C002E00), np.uint32(0xFF00FF00), np.uint32(255)
_THREE, _FOUR = np.uint64(3), np.uint64(4)
_TENTHS = np.array([i / 10 for i in range(100)])
_POWERS_OF_TEN = np.array([10.0**i for i in range(23)])


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


@intrinsic
def _four_bytes(context: Any, text: Any, at: Any) -> Any:
    """Four bytes of a byte array as one little-endian word; numba has no unaligned load of its own."""

    def load(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = target.make_array(signature.args[0])(target, builder, arguments[0])
        word = ir.IntType(32)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), word.as_pointer())
        return builder.load(place, align=1)

    return types.uint32(text, at), load


@compiled
def _product(a: np.uint64, b: np.uint64) -> Any:
    """All 128 bits of a product, as (high, low)."""
    a1, a0, b1, b0 = a >> _32, a & _LOW32, b >> _32, b & _LOW32
    low, middle, other = a0 * b0, a1 * b0, a0 * b1
    carry = (low >> _32) + (middle & _LOW32) + (other & _LOW32)
    return a1 * b1 + (middle >> _32) + (other >> _32) + (carry >> _32), a * b


@compiled
def _leading_zeros(value: np.uint64, spare: np.ndarray) -> int:
    # The exponent of the nearest double, which can be one too large: rounding may have carried.
    spare.view(np.float64)[0] = np.float64(value)
    zeros: Any = max(np.int64(0), np.int64(1086) - np.int64(spare[0] >> np.uint64(52)))
    return zeros + np.int64(value >> np.uint64(63 - zeros) == np.uint64(0))


@compiled
def nearest_double(digits: np.uint64, power: int, into: np.ndarray) -> bool:
    """Put the double nearest to digits * 10**power into `into[0]`; False if that is not decided here.

    Parameters
    ----------
    digits : uint64
    power : int
    into : ndarray of uint64, shape (1,)
        Receives the double's bits.
    """
    as_double = into.view(np.float64)
    if digits <= _EXACT and -22 <= power <= 22:
        exact = np.float64(digits)
        as_double[0] = exact / _POWERS_OF_TEN[-power] if power < 0 else exact * _POWERS_OF_TEN[power]
        return True
    if digits == np.uint64(0) or power < _LEAST_POWER or power > _MOST_POWER:
        return False
    zeros = _leading_zeros(digits, into)
    scaled = digits << np.uint64(zeros)
    high, low = _product(scaled, _FIVES[power - _LEAST_POWER, 0])
    if (high & np.uint64(0x1FF)) == np.uint64(0x1FF):
        # The bits that were cut off could carry: the lower half of the power decides.
        more, _ = _product(scaled, _FIVES[power - _LEAST_POWER, 1])
        low += more
        if low < more:
            high += _ONE
        if low == np.uint64(0xFFFFFFFFFFFFFFFF) and (power < -27 or power > 55):
            return False
    upper = np.int64(high >> np.uint64(63))
    mantissa = high >> np.uint64(upper + 9)
    exponent = ((217706 * power) >> 16) + 63 + upper - zeros + 1023
    if exponent <= 0 or exponent >= 2046:
        return False
    halfway = (mantissa << np.uint64(upper + 9)) == high and (mantissa & np.uint64(3)) == _ONE
    if halfway and low <= _ONE and -4 <= power <= 23:
        mantissa &= ~_ONE  # a tie goes to the even one, which is below
    mantissa = (mantissa + (mantissa & _ONE)) >> _ONE
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        exponent += 1
    into[0] = (np.uint64(exponent) << np.uint64(52)) | (mantissa & np.uint64((1 << 52) - 1))
    return True


@compiled
def _exponent(text: np.ndarray, at: np.uint64) -> Any:
    """The whole number behind an e, and the place behind it; the place `at` again if there is none."""
    start: Any = at
    minus = text[at] == _MINUS
    if minus or text[at] == _PLUS:
        at += _ONE
    mark: Any = at
    exponent: Any = 0
    digit = np.uint64(text[at]) - _48
    while digit < _TEN and exponent < 10_000:
        exponent = exponent * 10 + np.int64(digit)
        at += _ONE
        digit = np.uint64(text[at]) - _48
    return -exponent if minus else exponent, start if at == mark else at


@inlined
def _read_number(text: np.ndarray, at: np.uint64, bits: np.ndarray) -> Any:
    """Put a plain number into `bits[0]` and give the place behind it; `_NOWHERE` if it is not plain.

    A line end stops every loop, so that nothing is read beyond the last byte, which is one.
    """
    negative = text[at] == _MINUS
    if negative:
        at += _ONE
    first: Any = at
    digits = np.uint64(0)
    digit = np.uint64(text[at]) - _48
    while digit < _TEN:
        digits = digits * _TEN + digit
        at += _ONE
        digit = np.uint64(text[at]) - _48
    count: Any = np.int64(at - first)
    power: Any = 0
    if text[at] == _POINT:
        at += _ONE
        point: Any = at
        digit = np.uint64(text[at]) - _48
        while digit < _TEN:
            digits = digits * _TEN + digit
            at += _ONE
            digit = np.uint64(text[at]) - _48
        power = -np.int64(at - point)
        count -= power
    zero: Any = first
    while count > _MOST_DIGITS and (text[zero] == _ZERO or text[zero] == _POINT):
        count -= np.int64(text[zero] == _ZERO)
        zero += _ONE
    if count == 0 or count > _MOST_DIGITS:
        return _NOWHERE
    if text[at] | 32 == _E:
        exponent, behind = _exponent(text, at + _ONE)
        if behind == at + _ONE:
            return _NOWHERE
        at, power = behind, power + exponent
    if digits == np.uint64(0):
        bits[0] = np.uint64(0)
    elif not nearest_double(digits, power, bits):
        return _NOWHERE
    if negative:
        bits[0] |= _SIGN
    return at


@compiled
def _read_line(
    text: np.ndarray, at: np.uint64, into: np.ndarray, least: np.ndarray, most: np.ndarray, bits: np.ndarray
) -> Any:
    """Put a plain line's values into `into` and give the place of its LF; `_NOWHERE` if it is not plain, or not possible."""
    number, size, last = bits.view(np.float64), np.uint64(text.size), into.size - 1
    for column in range(into.size):
        # Three fields of four are one digit, a point and one digit.
        word: Any = _four_bytes(text, at) if at + _FOUR <= size else np.uint32(0)  # type: ignore[call-arg]
        tens = np.int64(word & _BYTE) - _ZERO
        ones = np.int64((word >> np.uint32(16)) & _BYTE) - _ZERO
        if (word & _SHORT_MASK) == _SHORT and 0 <= tens <= 9 and 0 <= ones <= 9 and column < last:
            value: Any = _TENTHS[tens * 10 + ones]
            at += _THREE
        else:
            at = _read_number(text, at, bits)
            if at == _NOWHERE:
                return _NOWHERE
            value = number[0]
            if column == last and text[at] == _CR:
                at += _ONE
            if text[at] != (_LF if column == last else _COMMA):
                return _NOWHERE
        if value < least[column] or value > most[column]:
            return _NOWHERE
        into[column] = value
        at += _ONE
    return at - _ONE


@compiled
def scan_lines(
    text: np.ndarray, values: np.ndarray, lines: np.ndarray, odd: np.ndarray, least: np.ndarray, most: np.ndarray,
    ordered: np.ndarray, slack: float,
) -> Any:
    """Read every plain line.

    Parameters
    ----------
    text : ndarray of uint8
        Whole lines; the last byte is LF.
    values : ndarray of float64, shape (columns, lines)
        Receives the rows.
    lines : ndarray of int64, shape (lines,)
        Receives the line of each row, counted from 0.
    odd : ndarray of int64, shape (lines, 3)
        Receives line, first byte and end of every other line.
    least, most : ndarray of float64, shape (columns,)
        What a column may hold.
    ordered : ndarray of int64, shape (3,)
        Columns of a least, a mean and a greatest value that must be in this order.
    slack : float
        Share of the greatest by which they may miss it.

    Returns
    -------
    (int, int)
        Rows, and other lines.
    """
    bits = np.zeros(1, np.uint64)
    rows: Any = 0
    others, line = 0, 0
    # Places are unsigned: numba looks at every signed one to see whether it counts from the end.
    at, size = np.uint64(0), np.uint64(text.size)
    while at < size:
        row = values[:, rows]
        end = _read_line(text, at, row, least, most, bits)
        if end != _NOWHERE:
            low, middle, high = row[ordered[0]], row[ordered[1]], row[ordered[2]]
            if not (low <= middle + slack * high and middle <= high + slack * high):
                end = _NOWHERE
        if end != _NOWHERE:
            lines[rows] = line
            rows += 1
        else:
            end = at
            while text[end] != _LF:
                end += _ONE
            odd[others, 0], odd[others, 1], odd[others, 2] = line, at, end
            others += 1
        at = end + _ONE
        line += 1
    return rows, others
