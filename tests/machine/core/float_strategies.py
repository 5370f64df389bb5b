"""Hypothesis strategies for bit patterns that crowd the edges of IEEE-754."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import float_oracle as oracle
from hypothesis import strategies as st

if TYPE_CHECKING:
    from float_oracle import Format


def fractions(width: int) -> st.SearchStrategy[int]:
    """Fraction fields: anything, a run of ones at either end, one bit, few bits below a run."""
    mask = (1 << width) - 1
    shifts = st.integers(0, width)
    return st.one_of(
        st.integers(0, mask),
        shifts.map(lambda n: mask >> n),
        shifts.map(lambda n: mask << n & mask),
        shifts.map(lambda n: 1 << n & mask),
        st.integers(0, 3),
        st.integers(0, 3).map(lambda n: mask - n),
    )


def _pattern(f: Format, draw: st.DrawFn, exponent: int) -> int:
    field = min(max(exponent, 0), 2 * f.bias + 1)
    return draw(st.sampled_from([0, f.sign])) | field << f.fraction | draw(fractions(f.fraction))


@st.composite
def patterns(draw: st.DrawFn, f: Format) -> int:
    """Any pattern, its exponent often at an end, at 1, or where integers end."""
    ends = st.sampled_from([0, 1, 2, 2 * f.bias - 1, 2 * f.bias, 2 * f.bias + 1])
    ones = st.integers(f.bias - 3, f.bias + 3)
    limits = st.sampled_from(
        [f.bias + n for n in (30, 31, 32, 62, 63, 64, f.fraction, f.fraction + 1)]
    )
    return _pattern(f, draw, draw(st.one_of(st.integers(0, 2 * f.bias + 1), ends, ones, limits)))


@st.composite
def partners(draw: st.DrawFn, f: Format, a: int) -> int:
    """A second operand that cancels the first, ties with it, or takes a product to an edge."""
    exponent = f.size(a) >> f.fraction
    precision = f.fraction + 1
    around = draw(st.integers(-3, 3))
    choice = draw(st.integers(0, 8))
    if choice == 0:
        return draw(patterns(f))
    if choice == 1:
        return draw(st.sampled_from([a, a ^ f.sign]))
    if choice == 2:  # cancels all but the last places
        return (f.size(a) + around) % f.infinity | draw(st.sampled_from([0, f.sign]))
    offset = {
        3: around,
        4: precision + around,
        5: -precision + around,
        6: f.bias - 2 * exponent + around,  # product at the edge of the subnormal numbers
        7: 3 * f.bias - 2 * exponent + around,  # at the edge of overflow
        8: f.bias - precision - 2 * exponent + around,  # below the least subnormal
    }[choice]
    return _pattern(f, draw, exponent + offset)


@st.composite
def pairs(draw: st.DrawFn, f: Format) -> tuple[int, int]:
    """Two operands."""
    a = draw(patterns(f))
    b = draw(partners(f, a))
    return draw(st.sampled_from([(a, b), (b, a)]))


@st.composite
def triples(draw: st.DrawFn, f: Format) -> tuple[int, int, int]:
    """Operands of a * b + c, where c often is -(a * b) rounded, or half a unit of it."""
    a, b = draw(pairs(f))
    product = oracle.mul(f, draw(st.sampled_from(list(oracle.MODES))), a, b)[0]
    c = draw(st.one_of(patterns(f), st.just(product ^ f.sign), partners(f, product)))
    return a, b, c


@st.composite
def near_integers(draw: st.DrawFn, f: Format) -> int:
    """Patterns on or beside an integer: small, anywhere, or at the limits of the integer types."""
    limits = st.sampled_from([0, 2**31, -(2**31), 2**32, 2**63, -(2**63), 2**64])
    whole = draw(st.one_of(limits, st.integers(-40, 40), st.integers(-(2**64), 2**65)))
    quarters = 4 * whole + draw(st.integers(-6, 6))
    if not quarters:
        return draw(st.sampled_from([0, f.sign]))
    return f.rounded(Fraction(quarters, 4), draw(st.sampled_from(list(oracle.MODES))))[0]


@st.composite
def between(draw: st.DrawFn, wide: Format, narrow: Format) -> int:
    """Wide patterns on or beside a narrow number or the middle of two."""
    widened = oracle.from_format(wide, narrow, oracle.RNE, draw(patterns(narrow)))[0]
    half = 1 << (wide.fraction - narrow.fraction - 1)
    offset = draw(st.sampled_from([0, 1, -1, half - 1, half, half + 1, 3 * half]))
    return (widened + offset) % (1 << wide.width)


def integers(width: int, *, signed: bool) -> st.SearchStrategy[int]:
    """Integers of a type: its ends, powers of two and their middles, anything."""
    lowest, largest = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    bits = st.integers(0, width)
    edges = st.builds(
        lambda sign, high, low, off: sign * ((1 << high) + (1 << low) + off),
        st.sampled_from([1, -1]),
        bits,
        bits,
        st.integers(-2, 2),
    )
    return st.one_of(
        st.integers(lowest, largest),
        edges.map(lambda n: min(max(n, lowest), largest)),
        st.integers(0, 40).map(lambda n: largest - n),
        st.integers(0, 40).map(lambda n: lowest + n),
    )
