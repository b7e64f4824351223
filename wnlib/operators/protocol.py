"""What an operator is, and what its families share.

An operator has `m`, `stack` (the shape of its own leading axes), `measure` (M), `adjoint` (M*) and `normal` (M*M
of several stacks in one pass over the operator). A stack of operators, one per seed say, has stack = (S,), and the
matrices given to it begin with that axis. It is drawn by a function of (m, n, rng, xp), scaled so that E[M*M] is the
identity on Sym(m), and named in operators.OPERATORS. One that takes complex Hermitian matrices says so by
`real = False`.
"""

import bisect
import math

import numpy as np

from wnlib import backend, validate
from wnlib.backend import array_namespace
from wnlib.linalg import smat, svec


def in_one_pass(product, Zs, stack, matrix):
    """Return `product` of the svec coordinates (*stack, k, d) of all the stacks Zs together, stack by stack.

    Raises TypeError unless they live where the operator's `matrix` does.
    """
    xp = backend.common_namespace({"the operator": matrix} | {f"input {k}": Z for k, Z in enumerate(Zs)})
    stacks = [under_stack(Z, stack, 2) for Z in Zs]
    together = smat(product(svec(xp.concat(stacks, axis=-3) if len(stacks) > 1 else stacks[0])))
    answers, start = [], 0
    for Z, part in zip(Zs, stacks, strict=True):
        stop = start + part.shape[-3]
        answer = together[..., start:stop, :, :]
        answers.append(answer if answer.shape == Z.shape else xp.reshape(answer, Z.shape))  # the call would cost
        start = stop
    return answers


def under_stack(x, stack, tail):
    """Return `x` (*stack, ..., tail axes) with the axes between the operator's stack and the tail made one."""
    if validate.stacked(x, stack, tail) == 1:
        return x
    return array_namespace(x).reshape(x, (*stack, -1, *x.shape[x.ndim - tail :]))


def beside(parameter, stack, between):
    """Return `parameter` (*stack, ...) with axes of length 1 after its stack, beside an input that has more."""
    shape = (*stack, *(1,) * between, *parameter.shape[len(stack) :])
    return array_namespace(parameter).reshape(parameter, shape)


def sample(g, n, d):
    """Return weights (d,) of n coordinates out of d, uniformly without replacement: √(d/n), and 0 for the rest."""
    weights = np.zeros(d)
    weights[g.choice(d, n, replace=False)] = math.sqrt(d / n)
    return weights


def require(kind, m, n, rng, xp, need, most=None, otherwise=""):
    """Raise unless m, n and rng are in order, n ≤ `most` where given, and need(m, operators) bytes are free.

    What would fit is said in the refusal, and `otherwise` names what else can be done.
    """
    m, n = validate.integer("m", m, 1), validate.integer("n", n, 1)
    if most is not None and n > most:
        raise ValueError(
            f"n = {validate.shown(n)} with operator {kind!r}: must be at most {validate.shown(most)}, there are no "
            "more to sample; operator = 'dense' takes any n"
        )
    copies = len(rng) if isinstance(validate.generators("rng", rng), list) else 1

    def instead(free):
        fits = bisect.bisect_right(range(1, min(m, free) + 1), free, key=lambda smaller: need(smaller, copies))
        fewer = " (or fewer seeds at a time)" if copies > 1 else ""
        return (f"m = {fits} would fit" if fits else "free some memory first") + fewer + otherwise

    what = f"operator {kind!r} with m = {validate.shown(m)}, n = {validate.shown(n)}"
    backend.require_memory(need(m, copies), what, instead, xp)
