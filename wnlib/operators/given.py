"""Measurements as a user has them, arrays, functions or LinearOperators: made a problem of least squares."""

import copy
import math
import numbers
from types import SimpleNamespace

import numpy as np

from wnlib import backend, validate
from wnlib.backend import array_namespace
from wnlib.linalg import degrees_of_freedom, inner, is_complex, sym

SPREAD = 0.5  # a restart weighs the measurements by exp(SPREAD·N(0, 1))


class Problem:
    """min ‖M(Z) − y‖ as `continuation` wants it: forward, adjoint, inner products, and what counts as explained."""

    def __init__(self, M, y, shape, hermitian, rng):
        self.rng, self._last, self.psd, self.noise_std = rng, (None, None), False, None
        # What a search has spent and seen; its weighted problems share it.
        self.meter = SimpleNamespace(products=0.0, most=math.inf, residuals=[], stopped=False, bar=None, callback=None)
        self._forward, self._adjoint, self.y, self.shape, *found = given(M, y, shape)
        self.unit, self.unit_matrix, self.dtype = found
        xp = array_namespace(self.y)
        square = self.shape[0] == self.shape[1]
        self.hermitian = square if hermitian is None else validate.flag("hermitian", hermitian)
        if self.hermitian and not square:
            raise ValueError(f"hermitian = True with matrices of shape {self.shape}: must be square")
        self.real = not xp.isdtype(self.y.dtype, "complex floating")
        self.field = 1 if xp.isdtype(self.dtype, "real floating") else 2
        self.total = self.inner(self.y, self.y)
        self.eps = float(xp.finfo(self.y.dtype).eps)
        self.exact = (1e-10 if self.eps < 1e-10 else 1e-5) ** 2 * self.total
        seen = self._probe()
        if self.hermitian and not self.real and self._small(xp.imag(seen), seen):
            raise ValueError("y is complex, but of a Hermitian matrix M sees real numbers: give the real part of y")
        # Rows that see nothing, as a mask's zeros, are no measurements. Complex numbers are two each.
        self.rows = int(xp.sum(xp.astype(seen != 0, xp.int64)))
        self.count = self.rows * (1 if self.real else 2)

    def _probe(self):
        """M of a random matrix; ValueError unless M is linear and the adjoint is one, to rounding."""
        Z, other = self.sample(), self.sample()
        w = self._random(self.y.shape, self.y.dtype)
        seen, together = self.forward(Z), self.forward(Z + other)
        size = math.sqrt(self.inner(together, together))
        if not self._small(together - seen - self.forward(other), together):
            raise ValueError(
                "M(Z + Z') is not M(Z) + M(Z') for random matrices: must be linear, and a new array each time"
            )
        there, here = self.inner(seen, w), float(inner(Z, self.adjoint(w))[0, 0])
        if not abs(there - here) <= 1e4 * self.eps * size * math.sqrt(self.inner(w, w)):
            raise ValueError(
                f"⟨M(Z), w⟩ and ⟨Z, M*(w)⟩ differ, {there:.9g} and {here:.9g} for random Z and w: must agree; M*(w) is "
                "Σ w_i M_i, with M_i and not its conjugate, M(Z)_i = tr(M_iᴴ Z), and both leave Z and w as they are"
            )
        self.meter.products = 0.0
        return seen

    def _small(self, part, whole):
        """Whether `part` (n,) is rounding beside `whole` (n,)."""
        part, whole = (float(array_namespace(x).sum(array_namespace(x).abs(x) ** 2)) for x in (part, whole))
        return part <= (1e4 * self.eps) ** 2 * whole

    def sample(self):
        """A random matrix of the kind that is sought."""
        Z = self._random(self.shape, self.dtype)
        return sym(Z) if self.hermitian else Z

    def _random(self, shape, dtype):
        xp = array_namespace(self.y)
        x = self.rng.standard_normal((2, *shape))
        return xp.astype(xp.asarray(x[0] + 1j * x[1] if xp.isdtype(dtype, "complex floating") else x[0]), dtype)

    def forward(self, Z):
        """M(Z) (n,)."""
        self.meter.products += 0.5
        w = self._forward(Z)
        return array_namespace(w).real(w) if self.real and is_complex(w.dtype) else w

    def adjoint(self, w):
        """M*(w) (p, q), its Hermitian part where A is Hermitian; asked twice in a row for one w it is kept."""
        if self._last[0] is not w:
            self.meter.products += 0.5
            E = self._adjoint(w)
            self._last = w, sym(E) if self.hermitian else E
        return self._last[1]

    def inner(self, v, w):
        """Re Σ v̄ w."""
        xp = array_namespace(v)
        return float(xp.vecdot(v, w) if self.real else xp.real(xp.vecdot(v, w)))

    def signs(self):
        """Random signs (n,)."""
        return self._there(self.rng.choice([-1.0, 1.0], self.y.shape[0]))

    def weighted(self):
        """The same problem, its measurements weighted at random: w_i > 0, the mean of w_i² being 1."""
        w = np.exp(SPREAD * self.rng.standard_normal(self.y.shape[0]))
        w, other = self._there(w / math.sqrt(np.mean(w**2))), copy.copy(self)
        forward, adjoint = self._forward, self._adjoint
        other.y, other._last = w * self.y, (None, None)
        other._forward, other._adjoint = (lambda Z: w * forward(Z)), (lambda v: adjoint(w * v))
        other.total = self.inner(other.y, other.y)
        other.exact = self.exact * other.total / self.total
        return other

    def _there(self, w):
        """w (n,), real, as an array where y is, of its precision."""
        xp = array_namespace(self.y)
        return xp.asarray(w, dtype=xp.float64 if self.eps < 1e-10 else xp.float32)

    def freedom(self, r):
        return degrees_of_freedom(*self.shape, r, self.hermitian, self.field)

    def spread(self, r, residual):
        """The standard deviation of the noise on a measurement that a residual at rank r tells of; NaN if nothing."""
        free = self.count - self.freedom(r)
        square = self.inner(residual, residual) / self.rows
        return math.sqrt(square * self.count / free) if free > 0 else math.nan

    def skew(self, w):
        """The part of M*(w) (p, q) that is not Hermitian."""
        self.meter.products += 0.5
        E = self._adjoint(w)
        return E - sym(E)

    def within_noise(self, r, residual):
        """Whether the residual is, to three standard errors, no larger than noise_std and the fit leave it.

        Of less than an eighth of the measurements left over nothing is believed.
        """
        free = self.count - self.freedom(r)
        limit = self.noise_std**2 * (1 + 3 * math.sqrt(2 / free)) if self.noise_std and 8 * free >= self.count else -1.0
        return self.spread(r, residual) ** 2 <= limit

    def judged(self, r, residual):
        if self.inner(residual, residual) <= self.exact:
            return "exact"
        return "noise" if self.within_noise(r, residual) else ""

    def spent(self):
        return self.meter.stopped or self.meter.products >= self.meter.most

    def report(self, r, residual):
        """Take down a step; show it, and tell the callback."""
        meter = self.meter
        left = math.sqrt(self.inner(residual, residual) / self.total)
        meter.residuals.append(left)
        if meter.bar is not None:
            meter.bar.update(math.ceil(meter.products) - meter.bar.n)
        if meter.callback is not None:
            stop = meter.callback(r, left, math.ceil(meter.products))
            meter.stopped = meter.stopped or (isinstance(stop, (bool, np.bool_)) and bool(stop))


def given(M, y, shape=None):
    """Return (forward, adjoint, y, (p, q), unit, unit_matrix, dtype) for measurements `M` of a matrix and `y` (n,).

    M: an array (n, p, q), a pair of functions or a scipy LinearOperator with `shape`, or an operator with measure and
    adjoint; see wnlib.recover. Integers become floating, and the more precise of y and an array M gives way to the
    other. Raises TypeError or ValueError for what is none of these, does not fit together, is not finite or out of
    range; and where y is zero.

    y is returned in units of `unit` and measures the matrix in units of `unit_matrix`, so that all is of the size of 1
    and squares stay in range. Both are powers of two: nothing is rounded. `dtype` is that of what adjoint gives.
    """
    if not validate.is_array_api_obj(y):
        raise TypeError(f"y is a {type(y).__name__}: must be an array (n,) of the measurements; use numpy.asarray")
    if np.ma.isMaskedArray(y) or np.ma.isMaskedArray(M):
        raise TypeError("M or y is a masked array: must be plain arrays; leave the measurements out that are masked")
    xp = array_namespace(y)
    if y.ndim != 1 or not y.shape[0]:
        raise ValueError(f"y has shape {tuple(y.shape)}: must be (n,), one number for each measurement")
    y = _floating("y", y)
    if not bool(xp.all(xp.isfinite(y))):
        raise ValueError("y has entries that are NaN or infinite: all must be finite; leave those measurements out")
    if shape is not None:
        sides = (shape, shape) if isinstance(shape, numbers.Integral) else shape
        if not (isinstance(sides, tuple) and len(sides) == 2):
            raise TypeError(f"shape = {validate.shown(shape)}: must be a pair (p, q), or m for (m, m)")
        shape = tuple(validate.integer("shape", side, 1) for side in sides)
    if validate.is_array_api_obj(M):
        return _in_units(*_array_form(M, y, shape))
    if hasattr(M, "measure") and hasattr(M, "adjoint"):
        if getattr(M, "stack", ()):
            raise ValueError(f"M is a stack {M.stack} of operators: must be one; recover them one by one")
        if shape not in (None, (M.m, M.m)):
            raise ValueError(f"shape = {shape}: must be {(M.m, M.m)}, the operator's, or left out")
        if xp.isdtype(y.dtype, "complex floating"):
            raise TypeError("y is complex: must be real with an operator of wnlib.operators; take its real part")
        forward, adjoint, shape = M.measure, M.adjoint, (M.m, M.m)
    elif hasattr(M, "normal"):
        raise TypeError(f"M is a {type(M).__name__}, which has no `measure`: must have one; 'dense' has")
    else:
        linear = hasattr(M, "matvec") and hasattr(M, "rmatvec")
        if not linear and not (isinstance(M, (tuple, list)) and len(M) == 2 and all(map(callable, M))):
            raise TypeError(
                f"M is a {type(M).__name__}: must be an array (n, p, q), numpy.asarray makes one of a list; a pair of "
                "functions; a LinearOperator with matvec and rmatvec; or an operator of wnlib.operators"
            )
        if shape is None:
            raise ValueError("shape is missing: must be (p, q) where M is not an array, or m for (m, m)")
        if linear and tuple(M.shape) != (size := (y.shape[0], shape[0] * shape[1])):
            raise ValueError(f"M has shape {tuple(M.shape)}: must be {size}, y's length and p·q")
        forward, adjoint = _of_linear_operator(M, shape, xp) if linear else M
    forward, adjoint = _checked(forward, "forward(Z)", tuple(y.shape), y), _checked(adjoint, "adjoint(w)", shape, y)
    return _in_units(forward, adjoint, y, shape)


def _floating(name, x):
    """`x`, integers made float64; TypeError unless it is single or double precision, real or complex."""
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "integral"):
        return xp.astype(x, xp.float64)
    if x.dtype not in (xp.float32, xp.float64, xp.complex64, xp.complex128):
        raise TypeError(f"{name} has dtype {x.dtype}: must be float32, float64, complex64 or complex128; convert it")
    return x


def _of_linear_operator(M, shape, xp):
    def adjoint(w):
        try:
            return xp.reshape(xp.asarray(M.rmatvec(w)), shape)
        except NotImplementedError:
            raise TypeError("M is a LinearOperator without rmatvec: must have one, w ↦ Σ w_i M_i row by row") from None

    return (lambda Z: M.matvec(xp.reshape(Z, (-1,)))), adjoint


def _in_units(forward, adjoint, y, shape):
    unit = _power_of_two(y)
    if not unit:
        raise ValueError("y is zero: must have entries that are not; the matrix 0 explains it")
    y = y / unit
    E = adjoint(y)
    size = _power_of_two(E) or 1.0
    if not 1e-300 < unit / size < 1e300:
        raise ValueError(f"A would have entries of the size of {unit / size:g}: out of range; scale M or y")
    scaled = (lambda Z: forward(Z / size)), (lambda w: adjoint(w) / size)
    return *scaled, y, shape, unit, unit / size, (E / size).dtype


def _power_of_two(x):
    """The largest power of two up to the largest entry of x in size; 0 where all are zero."""
    xp = array_namespace(x)
    largest = float(xp.max(xp.abs(x)))
    return math.ldexp(0.5, math.frexp(largest)[1]) if largest else 0.0


def _array_form(M, y, shape):
    xp = backend.common_namespace({"M": M, "y": y})
    if M.ndim != 3 or 0 in M.shape or M.shape[0] != y.shape[0]:
        raise ValueError(
            f"M has shape {tuple(M.shape)} and y {y.shape[0]} numbers: must be (n, p, q) and n, a matrix for each"
        )
    n, *sides = M.shape
    if shape not in (None, tuple(sides)):
        raise ValueError(f"shape = {shape}: must be {tuple(sides)}, that of M's matrices, or left out")
    M = _floating("M", M)
    if not bool(xp.all(xp.isfinite(M))):
        raise ValueError("M has entries that are NaN or infinite: all must be finite; check where it was made")
    single = 32 in (xp.finfo(M.dtype).bits, xp.finfo(y.dtype).bits)
    real = xp.isdtype(y.dtype, "real floating")
    kinds = (xp.float32, xp.complex64) if single else (xp.float64, xp.complex128)
    M = xp.astype(M, kinds[not (real and xp.isdtype(M.dtype, "real floating"))], copy=False)
    y = xp.astype(y, kinds[not real], copy=False)
    flat = xp.reshape(M, (n, sides[0] * sides[1]))
    conj = (lambda x: xp.conj(x)) if xp.isdtype(M.dtype, "complex floating") else (lambda x: x)
    return (
        lambda Z: conj(flat @ conj(xp.reshape(Z, (-1,)))),
        lambda w: xp.reshape(w @ flat, tuple(sides)),
        y,
        tuple(sides),
    )


def _checked(function, name, shape, y):
    """`function`, its value an array of `shape`, finite and as precise as y, or refused in one line."""

    def call(x):
        value = function(x)
        if not validate.is_array_api_obj(value) or tuple(value.shape) != shape:
            got = tuple(value.shape) if validate.is_array_api_obj(value) else type(value).__name__
            raise ValueError(f"{name} gave {got}: must be an array of shape {shape}")
        xp, value = backend.common_namespace({name: value, "y": y}), _floating(name, value)
        if xp.finfo(value.dtype).bits < xp.finfo(y.dtype).bits:
            raise TypeError(f"{name} gave {value.dtype}: must be as precise as y, {y.dtype}; or convert y")
        if not bool(xp.all(xp.isfinite(value))):
            raise ValueError(f"{name} gave entries that are NaN or infinite: all must be finite")
        return value

    return call
