"""Gaussian measurements drawn as they are asked for: any n, at a cost free of n and of d²."""

import itertools
import math

import array_api_compat.numpy
import numpy as np

from wnlib import backend, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, mT, smat, squared_norm
from wnlib.operators.protocol import in_one_pass

TOLERANCE = 1e-6
CHUNK = 128  # rows by which the room for the basis and the rows grows
BLOCK, FEW = 8192, 5  # columns read at once: a chunk's fit the cache; matrices up to which one at a time is quicker
STORAGE = ("float64", "float32")


class Lazy:
    """n Gaussian measurements of Sym(m): M*M z = Σ_j R_j ⟨R_j, z⟩, of which only what is asked for is drawn.

    A matrix of independent N(0, 1/n) entries is a triangle in any orthonormal basis, up to a rotation of the
    measurements (Householder; Bartlett), and the basis may follow the queries: Lu's Householder dice (arXiv
    2101.07464), here for M*M. Known are directions u_1…u_k and rows R_j, and of each u_i the excess M*M u_i − u_i,
    which no later row changes, being orthogonal to u_i. A query with a part outside them draws the next direction u, by
    Gram and Schmidt twice, and one row (χu + h)/√n: χ² with n − j degrees of freedom, j the rows so far, and
    h ~ N(0, I) orthogonal to all directions, u among them. With n rows drawn M is known. So X, Θ, Z and E
    have the law that they have under `gaussian`, for n below and above d. A product costs O(kd) for each matrix,
    whatever n is, and k stops growing once the queries repeat themselves.

    A part of a query smaller than `tolerance` times it draws nothing and is answered by itself, E[M*M] being the
    identity: that product is wrong by about tolerance·√(d/n) of its size. At tolerance = 0 the law is exact, up to
    rounding. Nothing says which rotation of the measurements M is: there is no `measure`, and no ‖M(Z) − y‖.
    """

    stack = ()

    def __init__(self, m, n, rng, xp, tolerance, storage):
        self.m, self.n, self.tolerance = m, n, tolerance
        self._xp, self._rng, self._dtype = xp, rng, getattr(xp, storage)
        self.directions, self.excess, self.rows = (_Rows(dim_sym(m), self._dtype, xp) for _ in range(3))

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m): all of them in the same passes over what is known."""
        return in_one_pass(self._normal, Zs, self.stack, self.directions.like)

    def noise(self, count, rng):
        """Return M*(w) (count, m, m) for `count` independent w ~ N(0, I_n).

        In the measurements' space w has an N(0, 1) component along each row so far and the rest, of size χ with n − j
        degrees of freedom, along a new one, whose row is h/√n.
        """
        answers = []
        for _ in range(count):
            known = self._xp.asarray(rng.standard_normal((1, len(self.rows))), dtype=self._dtype)
            answer = self.rows.combine(known)
            if len(self.rows) < self.n:
                row = self._orthogonal_normals(1)
                answer = answer + math.sqrt(rng.chisquare(self.n - len(self.rows))) * row
                self.rows.append(row)
            answers.append(answer)
        return smat(self._xp.astype(self._xp.concat(answers), self._xp.float64))

    def _normal(self, z):
        xp = self._xp
        flat = xp.reshape(z, (-1, z.shape[-1]))
        size = xp.max(xp.abs(flat), axis=-1, keepdims=True)
        size = xp.where((size > 0) & xp.isfinite(size), size, xp.ones_like(size))
        query = xp.astype(flat / size, self._dtype)  # every scale keeps the storage's relative accuracy
        coordinates = self._reveal(query) if len(self.rows) < self.n else None
        if len(self.rows) < self.n:
            answer = query + self.excess.combine(coordinates)
        else:  # all is drawn, by now at the latest
            answer = self.rows.combine(self.rows.products(query))
        return xp.reshape(xp.astype(answer, z.dtype) * size, z.shape)

    def _reveal(self, query):
        """Return the coordinates of `query` (q, d) in the directions, new ones drawn for what is outside them."""
        xp = self._xp
        coordinates, size = self.directions.products(query), _norms(query)
        eps, outside = float(xp.finfo(self._dtype).eps), np.arange(len(size))
        least = max(self.tolerance, 64 * eps)
        if least**2 >= 16 * eps:  # else rounding hides so small a part, and it has to be formed to be seen
            outside = np.flatnonzero(size**2 - _norms(coordinates) ** 2 > (least * size) ** 2)
        inside = self.directions.combine(xp.take(coordinates, xp.asarray(outside), axis=0))
        rest, fresh = xp.take(query, xp.asarray(outside), axis=0) - inside, []
        for i, smallest in enumerate(least * size[outside]):
            if len(self.rows) + len(fresh) == self.n:
                break
            u = _less(rest[i : i + 1, :], fresh)
            length = float(_norms(u)[0])
            if length > smallest:
                fresh.append(u / length)
        fresh = self._orthogonal_again(xp.concat(fresh)) if fresh else []
        if not fresh:
            return coordinates
        fresh = xp.concat(fresh)
        self._draw(fresh)
        return xp.concat([coordinates, query @ fresh.T], axis=-1)

    def _orthogonal_again(self, u):
        """The second Gram and Schmidt, on directions u (p, d) of size 1: what they lost in the first was rounding.

        Only at size 1 does it leave rounding of *this* size, however small the part was. A list; what rounding made up
        for the most part is left out.
        """
        u, kept = u - self.directions.combine(self.directions.products(u)), []
        for i in range(u.shape[0]):
            v = _less(u[i : i + 1, :], kept)
            length = float(_norms(v)[0])
            if length > 0.5:
                kept.append(v / length)
        return kept

    def _draw(self, fresh):
        """Draw the rows that belong to the new directions `fresh` (p, d)."""
        xp, p = self._xp, fresh.shape[0]
        rows = self._orthogonal_normals(p)
        inner = to_numpy(rows @ fresh.T)  # row i is orthogonal to the directions up to its own, not to later ones
        chi = np.sqrt(self._rng.chisquare(self.n - len(self.rows) - np.arange(p)))
        change = np.diag(chi / math.sqrt(self.n)) - np.tril(inner)
        rows = rows + xp.asarray(change, dtype=self._dtype) @ fresh
        corner = xp.asarray(np.triu(inner + change), dtype=self._dtype)
        self.excess.append(self.rows.combine(self.rows.products(fresh)) + corner.T @ rows - fresh)
        self.directions.append(fresh)
        self.rows.append(rows)

    def _orthogonal_normals(self, count):
        """h/√n (count, d) with h ~ N(0, I) on the complement of the directions so far."""
        xp = self._xp
        drawn = self._rng.standard_normal((count, dim_sym(self.m)))
        h = xp.asarray(drawn / math.sqrt(self.n), dtype=self._dtype)
        return h - self.directions.combine(self.directions.products(h))


class LazyStack:
    """One Lazy operator for each generator: each has its own directions."""

    def __init__(self, members):
        self.members, self.m, self.n, self.stack = members, members[0].m, members[0].n, (len(members),)

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (S, ..., m, m)."""
        for Z in Zs:
            validate.stacked(Z, self.stack, 2)
        answers = [M.normal(*(Z[s, ...] for Z in Zs)) for s, M in enumerate(self.members)]
        return [
            array_namespace(Z).stack(list(members)) for Z, members in zip(Zs, zip(*answers, strict=True), strict=True)
        ]

    def noise(self, count, rng):
        """Return M*(w) (S, count, m, m) for `count` independent w ~ N(0, I_n) of each generator of the list rng."""
        noises = [M.noise(count, g) for M, g in zip(self.members, rng, strict=True)]
        return array_namespace(noises[0]).stack(noises)


class _Rows:
    """Rows (k, d) that grow by chunks, so that what is there is never copied."""

    def __init__(self, d, dtype, xp):
        self.d, self.xp, self.chunks, self.count = d, xp, [], 0
        self.size = min(CHUNK, d)
        self.like = xp.zeros((0, d), dtype=dtype)

    def __len__(self):
        return self.count

    def _tiles(self, q):
        """Yield (which of q matrices, rows, columns, what stands there): a few one by one, while it is in the cache."""
        width, step = (BLOCK, 1) if 1 < q <= FEW and isinstance(self.like, np.ndarray) else (self.d, max(q, 1))
        for k, chunk in enumerate(self.chunks):
            rows = slice(k * self.size, min(self.count, (k + 1) * self.size))
            for first, i in itertools.product(range(0, self.d, width), range(0, q, step)):
                columns = slice(first, first + width)
                yield slice(i, i + step), rows, columns, chunk[: rows.stop - rows.start, columns]

    def products(self, z):
        """Return ⟨row, z⟩ (q, k) for each row and each of z (q, d)."""
        answer = self.xp.zeros((z.shape[0], self.count), dtype=self.like.dtype)
        for which, rows, columns, tile in self._tiles(z.shape[0]):
            answer[which, rows] += z[which, columns] @ mT(tile)
        return answer

    def combine(self, weights):
        """Return the sums (q, d) of the rows with the `weights` (q, k)."""
        total = self.xp.zeros((weights.shape[0], self.d), dtype=self.like.dtype)
        for which, rows, columns, tile in self._tiles(weights.shape[0]):
            total[which, columns] += weights[which, rows] @ tile
        return total

    def append(self, rows):
        """Add the rows (p, d); MemoryError in one line before there is no room."""
        for i in range(rows.shape[0]):
            place = self.count % self.size
            if place == 0:
                self._grow()
            self.chunks[-1][place, :] = rows[i, :]
            self.count += 1

    def _grow(self):
        bytes_each = self.xp.finfo(self.like.dtype).bits // 8
        more = bytes_each * self.size * self.d
        what = f"operator 'lazy' with {self.count} rows of {self.d}, to hold {self.size} more,"
        advice = "use storage = 'float32', a larger tolerance, or fewer columns"
        backend.require_memory(more, what, lambda free: advice, self.xp)
        self.chunks.append(self.xp.zeros((self.size, self.d), dtype=self.like.dtype))


def _less(u, directions):
    """u (1, d) without its part along each of `directions`, orthonormal."""
    for v in directions:
        u = u - (u @ v.T) * v
    return u


def _norms(x):
    """The rows' norms, a NumPy array."""
    return np.sqrt(to_numpy(squared_norm(x[..., None, :])))


def lazy(m, n, rng, xp=array_api_compat.numpy, tolerance=TOLERANCE, storage="float64"):
    """Return n Gaussian measurements, drawn as they are asked for: see Lazy. A list of generators gives a stack.

    `tolerance` >= 0 is relative to a query; what is smaller draws nothing. `storage`, "float64" or "float32", is that
    of what is drawn: with float32 a product is accurate to about 1e-6 of its argument. Raises ValueError for a negative
    tolerance and an unknown storage.
    """
    validate.integer("m", m, 1)
    validate.integer("n", n, 1)
    tolerance = validate.real("tolerance", tolerance, 0)
    validate.choice("storage", storage, STORAGE)
    if isinstance(validate.generators("rng", rng), list):
        return LazyStack([Lazy(m, n, g, xp, tolerance, storage) for g in rng])
    return Lazy(m, n, rng, xp, tolerance, storage)
