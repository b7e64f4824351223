"""Pauli measurements of q qubits, m = 2^q: matrix-free, O(m² log m) a product."""

import functools
import math

import array_api_compat.numpy
import numpy as np

from wnlib import validate
from wnlib.backend import array_namespace, drawn, to_numpy
from wnlib.linalg import mH
from wnlib.operators.protocol import beside, require

LETTERS = np.array(["I", "X", "Y", "Z"])
CHUNK = 5  # qubits transformed at once, by a matrix of size 2^CHUNK


class Pauli:
    """M(Z)_i = scale·tr(P_i Z) for the Pauli strings P_i, such as "XIZY", of Hermitian Z (..., m, m), complex.

    `strings` (*stack, n) is text of q letters each, none twice; the first letter is the first factor of the Kronecker
    product. scale = √(m/n): E[M*M] is the identity for strings drawn uniformly without replacement. `weight`
    (*stack, n) counts a string's letters other than I.

    A string is i^{x·z}X^xZ^z with bits x and z, so tr(PZ) = i^{x·z} Σ_b (−1)^{z·b} Z[b, b⊕x], for each x a
    Walsh–Hadamard transform over b. It sees Re Z alone where x·z is even, Im Z where it is odd: one real transform, of
    Re Z + Im Z, serves both.
    """

    real = False

    def __init__(self, strings, xp=array_api_compat.numpy):
        codes = _codes(strings)
        self.strings, self.stack = _text(codes), codes.shape[:-2]
        self.n, q = codes.shape[-2:]
        self.m = m = 2**q
        high, low = codes >> 1, codes & 1
        z, x = (bits @ 2 ** np.arange(q)[::-1] for bits in (high, high ^ low))
        Y = np.count_nonzero(codes == 2, axis=-1)
        place = np.full((*self.stack, m * m), self.n)
        np.put_along_axis(place, z * m + x, np.arange(self.n), axis=-1)
        if np.count_nonzero(place < self.n) < x.size:
            raise ValueError("strings holds one twice: must be different; give one the mean of its values")
        self.weight = np.count_nonzero(codes, axis=-1)
        self.scale = math.sqrt(m / self.n)
        self.index, self.place = xp.asarray(z * m + x), xp.asarray(place)
        signs = 1 - (Y + 1) // 2 % 2 * 2  # of i^{x·z}, or of i·i^{x·z} where x·z is odd
        self.weights = xp.asarray(self.scale * math.sqrt(m) * signs)
        b = np.arange(m)
        self.swap = xp.asarray((b[:, None] * m + (b[:, None] ^ b)).reshape(-1))  # [b, x] to [b, b⊕x] and back

    def measure(self, Z):
        """Return y = M(Z) (..., n) for Z (..., m, m) whose leading axes begin with `stack`."""
        validate.matrices("Z", Z, (self.m, self.m), complex=True)
        index, weights = self._beside(validate.stacked(Z, self.stack, 2), "index", "weights")
        return weights * array_namespace(Z).take_along_axis(self._transform(Z), index, axis=-1)

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., n) whose leading axes begin with `stack`."""
        validate.measurements(w, self.n)
        xp = array_namespace(w)
        place, weights = self._beside(validate.stacked(w, self.stack, 1), "place", "weights")
        w = xp.concat([weights * w, xp.zeros_like(w[..., :1])], axis=-1)
        return self._back(xp.take_along_axis(w, place, axis=-1))

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m)."""
        return [self._back(self._seen(Z) * self._transform(Z)) for Z in Zs]

    def _seen(self, Z):
        (place,) = self._beside(validate.stacked(Z, self.stack, 2), "place")
        return self.scale**2 * self.m * array_namespace(Z).astype(place < self.n, self.weights.dtype)

    def _beside(self, between, *names):
        return [beside(getattr(self, name), self.stack, between) for name in names]

    def _transform(self, Z):
        """Re or Im of tr(X^xZ^z Z), (..., m²) with z before x."""
        xp = array_namespace(Z)
        R = xp.real(Z) + xp.imag(Z) if xp.isdtype(Z.dtype, "complex floating") else Z
        return _hadamard(xp.take(xp.reshape(R, (*Z.shape[:-2], self.m**2)), self.swap, axis=-1), self.m)

    def _back(self, t):
        xp = array_namespace(t)
        R = xp.take(_hadamard(t, self.m), self.swap, axis=-1)
        R = xp.reshape(R, (*t.shape[:-1], self.m, self.m))
        C = (0.5 + 0.5j) * xp.astype(R, xp.complex128)
        return C + mH(C)  # R's symmetric part is Re Z, its skew part Im Z


def pauli(m, n, rng, xp=array_api_compat.numpy):
    """Return n different Pauli strings drawn uniformly from all m², m = 2^q.

    Raises ValueError for m that is no power of two and n > m².
    """
    q = max(validate.integer("m", m, 1).bit_length() - 1, 1)
    if m != 2**q:
        raise ValueError(f"m = {validate.shown(m)}: must be 2^q for q qubits, such as {2**q} or {2 ** (q + 1)}")
    # What drawing the strings, or a product, makes on its way: measured.
    require("pauli", m, n, rng, xp, lambda m, copies: 16 * copies * (7 * m * m + q * n), m * m)
    places = 4 ** np.arange(q)[::-1]  # a string is a number with digits 0 to 3

    def draw(g):
        return _text(g.choice(m * m, n, replace=False)[:, None] // places % 4)

    return Pauli(drawn(rng, np, draw), xp)


def shots(operator, state, count, rng, readout_error=0.0):
    """Return y (..., n) as estimated from `count` shots of each string of a Pauli operator: binomial, for each alone.

    `state` (..., m, m) is a density matrix. Each qubit is read wrongly with probability `readout_error`, which
    multiplies the expectation value of a string by (1 − 2·readout_error)^weight; divide by that to undo it. `rng` is a
    Generator or one for each of operator.stack. Raises ValueError where an expectation value is beyond ±1.
    """
    validate.integer("count", count, 1)
    if validate.real("readout_error", readout_error, 0) > 0.5:
        raise ValueError(f"readout_error = {readout_error:g}: must be at most 0.5, a coin's")
    y, stack = operator.measure(state), operator.stack
    values = to_numpy(y) / operator.scale
    if (largest := np.max(np.abs(values))) > 1 + 1e-6:
        raise ValueError(f"state has an expectation value of {largest:.4g}: must be within ±1; project it to trace one")
    damped = values * beside((1 - 2 * readout_error) ** operator.weight, stack, y.ndim - len(stack) - 1)
    p = np.clip((1 + damped) / 2, 0, 1)
    draws = [g.binomial(count, p[s]) for s, g in enumerate(rng)] if stack else rng.binomial(count, p)
    return array_namespace(y).asarray(operator.scale * (2 * np.asarray(draws) / count - 1))


def _codes(strings):
    """The letters' places in LETTERS (*stack, n, q)."""
    strings = np.asarray(strings)
    if strings.dtype.kind != "U" or not strings.ndim or not strings.size:
        raise TypeError(
            f"strings = {validate.shown(strings.tolist())}: must be text such as ['XIZ', 'YYI'], at least one"
        )
    letters = np.ascontiguousarray(strings)[..., None].view("U1")
    codes = np.argmax(letters[..., None] == LETTERS, axis=-1).astype(np.uint8)
    wrong = strings[np.any(LETTERS[codes] != letters, axis=-1)]
    if wrong.size:
        raise ValueError(f"strings has {str(wrong[0])!r}: all must be letters of 'IXYZ', as many in each")
    return codes


def _text(codes):
    return np.ascontiguousarray(LETTERS[codes]).view(f"U{codes.shape[-1]}")[..., 0]


def _hadamard(t, m):
    """The Walsh–Hadamard transform along the rows' index of m×m matrices given as (..., m²), orthonormal."""
    xp, shape, done = array_namespace(t), t.shape, 1
    while done < m:
        size = min(2**CHUNK, m // done)
        t = xp.reshape(t, (*shape[:-1], done, size, m * m // (done * size)))
        t = _sylvester(size, xp, t.dtype, t.device) @ t
        done *= size
    return xp.reshape(t, shape)


@functools.lru_cache(maxsize=16)
def _sylvester(size, xp, dtype, device):
    """The orthonormal Hadamard matrix of Sylvester's kind, (size, size)."""
    b = np.arange(size)
    signs = 1.0 - np.bitwise_count(b[:, None] & b) % 2 * 2.0
    return xp.asarray(signs / math.sqrt(size), dtype=dtype, device=device)
