"""IEEE-754 and RISC-V F/D arithmetic on exact rationals: what float.c must answer, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, isqrt

RNE, RTZ, RDN, RUP, RMM = MODES = range(5)
NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16

Outcome = tuple[int, int]  # a bit pattern (or an integer, or a truth value) and the flags raised


@dataclass(frozen=True)
class Format:
    """A binary interchange format."""

    width: int
    fraction: int
    bias: int

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        """The pattern of +infinity."""
        return (2 * self.bias + 1) << self.fraction

    @property
    def nan(self) -> int:
        """The canonical NaN."""
        return self.infinity | 1 << (self.fraction - 1)

    @property
    def smallest_normal(self) -> Fraction:
        """The least normal number."""
        return Fraction(2) ** (1 - self.bias)

    def negative(self, a: int) -> bool:
        """Tell whether the sign bit is set."""
        return bool(a & self.sign)

    def size(self, a: int) -> int:
        """The pattern without its sign."""
        return a & (self.sign - 1)

    def is_infinite(self, a: int) -> bool:
        """Tell an infinity."""
        return self.size(a) == self.infinity

    def is_nan(self, a: int) -> bool:
        """Tell a NaN."""
        return self.size(a) > self.infinity

    def is_signaling(self, a: int) -> bool:
        """Tell a signaling NaN."""
        return self.is_nan(a) and not a & 1 << (self.fraction - 1)

    def value(self, a: int) -> Fraction:
        """The exact value of a finite pattern."""
        exponent, fraction = divmod(self.size(a), 1 << self.fraction)
        hidden = 1 << self.fraction if exponent else 0
        size = Fraction(hidden + fraction) * Fraction(2) ** (
            max(exponent, 1) - self.bias - self.fraction
        )
        return -size if self.negative(a) else size

    def encode(self, exact: Fraction, *, negative: bool) -> int:
        """The pattern of a representable size, with this sign."""
        sign = self.sign if negative else 0
        if exact == 0:
            return sign
        exponent = max(_exponent(exact), 1 - self.bias)
        units = exact * Fraction(2) ** (self.fraction - exponent)
        assert units.denominator == 1
        return sign | ((exponent + self.bias - 1) << self.fraction) + units.numerator

    def rounded(self, exact: Fraction, rm: int) -> Outcome:
        """Round a nonzero rational; tiny is what an unbounded exponent would leave tiny."""
        negative = exact < 0
        exponent = _exponent(abs(exact))
        unbounded = self._quantised(exact, exponent, rm)
        result = self._quantised(exact, max(exponent, 1 - self.bias), rm)
        if abs(result) >= Fraction(2) ** (self.bias + 1):
            to_infinity = rm in (RNE, RMM) or rm == (RDN if negative else RUP)
            sign = self.sign if negative else 0
            return sign | (self.infinity if to_infinity else self.infinity - 1), OF | NX
        flags = 0
        if result != exact:
            flags = NX | (UF if abs(unbounded) < self.smallest_normal else 0)
        return self.encode(abs(result), negative=negative), flags

    def _quantised(self, exact: Fraction, exponent: int, rm: int) -> Fraction:
        quantum = Fraction(2) ** (exponent - self.fraction)
        return to_whole(exact / quantum, rm) * quantum


BINARY32 = Format(32, 23, 127)
BINARY64 = Format(64, 52, 1023)


def _exponent(size: Fraction) -> int:
    """Floor of the binary logarithm of a positive rational."""
    guess = size.numerator.bit_length() - size.denominator.bit_length()
    return guess if Fraction(2) ** guess <= size else guess - 1


def to_whole(exact: Fraction, rm: int) -> int:
    """Round a rational to an integer."""
    below = floor(exact)
    rest = exact - below
    if rest == 0 or rm == RDN:
        return below
    if rm == RUP:
        return below + 1
    if rm == RTZ:
        return below + (exact < 0)
    if rest != Fraction(1, 2):
        return below + (rest > Fraction(1, 2))
    if rm == RNE:
        return below + below % 2
    return below + (exact > 0)


def _nan(f: Format, *operands: int, invalid: bool = False) -> Outcome:
    return f.nan, NV if invalid or any(map(f.is_signaling, operands)) else 0


def _sum(f: Format, x: Fraction, y: Fraction, signs: tuple[bool, bool], rm: int) -> Outcome:
    if x + y:
        return f.rounded(x + y, rm)
    negative = signs[0] if signs[0] == signs[1] else rm == RDN
    return f.sign if negative else 0, 0


def add(f: Format, rm: int, a: int, b: int) -> Outcome:
    """a + b."""
    return fma(f, rm, a, f.encode(Fraction(1), negative=False), b)


def sub(f: Format, rm: int, a: int, b: int) -> Outcome:
    """a - b."""
    return add(f, rm, a, b ^ f.sign)


def mul(f: Format, rm: int, a: int, b: int) -> Outcome:
    """a * b."""
    sign = (a ^ b) & f.sign
    if f.is_nan(a) or f.is_nan(b):
        return _nan(f, a, b)
    if f.is_infinite(a) or f.is_infinite(b):
        return (sign | f.infinity, 0) if f.size(a) and f.size(b) else _nan(f, invalid=True)
    product = f.value(a) * f.value(b)
    return f.rounded(product, rm) if product else (sign, 0)


def div(f: Format, rm: int, a: int, b: int) -> Outcome:
    """a / b."""
    sign = (a ^ b) & f.sign
    if f.is_nan(a) or f.is_nan(b):
        return _nan(f, a, b)
    if (f.is_infinite(a) and f.is_infinite(b)) or f.size(a) == f.size(b) == 0:
        return _nan(f, invalid=True)
    if f.is_infinite(a):
        return sign | f.infinity, 0
    if f.is_infinite(b) or f.size(a) == 0:
        return sign, 0
    if f.size(b) == 0:
        return sign | f.infinity, DZ
    return f.rounded(f.value(a) / f.value(b), rm)


def sqrt(f: Format, rm: int, a: int) -> Outcome:
    """The square root of a."""
    if f.is_nan(a):
        return _nan(f, a)
    if f.size(a) == 0 or a == f.infinity:
        return a, 0
    if f.negative(a):
        return _nan(f, invalid=True)
    # A root cut far below the format's precision, with the midpoint of its last unit for the rest.
    shift = 2 * (f.bias + 2 * f.fraction)
    scaled = f.value(a) * 4**shift
    assert scaled.denominator == 1
    root = isqrt(scaled.numerator)
    inexact = root * root != scaled.numerator
    return f.rounded(Fraction(2 * root + inexact, 2 << shift), rm)


def fma(f: Format, rm: int, a: int, b: int, c: int) -> Outcome:
    """a * b + c, rounded once."""
    zero_by_infinity = any(f.size(x) == 0 and f.is_infinite(y) for x, y in ((a, b), (b, a)))
    if zero_by_infinity or any(map(f.is_nan, (a, b, c))):
        return _nan(f, a, b, c, invalid=zero_by_infinity)
    signs = f.negative(a ^ b), f.negative(c)
    if f.is_infinite(a) or f.is_infinite(b):
        if f.is_infinite(c) and signs[0] != signs[1]:
            return _nan(f, invalid=True)
        return f.infinity | (a ^ b) & f.sign, 0
    if f.is_infinite(c):
        return c, 0
    return _sum(f, f.value(a) * f.value(b), f.value(c), signs, rm)


def _extreme(f: Format, a: int, b: int, *, maximum: bool) -> Outcome:
    flags = _nan(f, a, b)[1]
    numbers = [x for x in (a, b) if not f.is_nan(x)]
    # Infinities order by a value beyond every finite one, zeros by their sign.
    key = sorted(numbers, key=lambda x: (_order(f, x), not f.negative(x)))
    return (key[-1 if maximum else 0] if key else f.nan), flags


def _order(f: Format, a: int) -> Fraction:
    if f.is_infinite(a):
        return Fraction(2) ** (f.bias + 2) * (-1 if f.negative(a) else 1)
    return f.value(a)


def minimum(f: Format, _rm: int, a: int, b: int) -> Outcome:
    """minimumNumber of IEEE 754-2019."""
    return _extreme(f, a, b, maximum=False)


def maximum(f: Format, _rm: int, a: int, b: int) -> Outcome:
    """maximumNumber of IEEE 754-2019."""
    return _extreme(f, a, b, maximum=True)


def eq(f: Format, _rm: int, a: int, b: int) -> Outcome:
    """a == b, quiet."""
    if f.is_nan(a) or f.is_nan(b):
        return 0, _nan(f, a, b)[1]
    return int(_order(f, a) == _order(f, b)), 0


def lt(f: Format, _rm: int, a: int, b: int) -> Outcome:
    """a < b, signaling."""
    if f.is_nan(a) or f.is_nan(b):
        return 0, NV
    return int(_order(f, a) < _order(f, b)), 0


def le(f: Format, _rm: int, a: int, b: int) -> Outcome:
    """a <= b, signaling."""
    if f.is_nan(a) or f.is_nan(b):
        return 0, NV
    return int(_order(f, a) <= _order(f, b)), 0


def classify(f: Format, _rm: int, a: int) -> Outcome:
    """The mask of FCLASS."""
    if f.is_nan(a):
        return 1 << (8 if f.is_signaling(a) else 9), 0
    if f.is_infinite(a):
        return 1 << (0 if f.negative(a) else 7), 0
    if f.size(a) == 0:
        return 1 << (3 if f.negative(a) else 4), 0
    if abs(f.value(a)) < f.smallest_normal:
        return 1 << (2 if f.negative(a) else 5), 0
    return 1 << (1 if f.negative(a) else 6), 0


def to_integer(f: Format, rm: int, a: int, lowest: int, largest: int) -> Outcome:
    """Convert to an integer, saturating as RISC-V's table of FCVT says."""
    if f.is_nan(a):
        return largest, NV
    if f.is_infinite(a):
        return lowest if f.negative(a) else largest, NV
    exact = f.value(a)
    whole = to_whole(exact, rm)
    if not lowest <= whole <= largest:
        return min(max(whole, lowest), largest), NV
    return whole, NX if whole != exact else 0


def from_integer(f: Format, rm: int, n: int) -> Outcome:
    """Convert an integer."""
    return f.rounded(Fraction(n), rm) if n else (0, 0)


def from_format(f: Format, source: Format, rm: int, a: int) -> Outcome:
    """Convert between formats."""
    if source.is_nan(a):
        return f.nan, NV if source.is_signaling(a) else 0
    sign = f.sign if source.negative(a) else 0
    if source.is_infinite(a):
        return sign | f.infinity, 0
    exact = source.value(a)
    return f.rounded(exact, rm) if exact else (sign, 0)
