"""Trials side by side that leave once they are decided."""

import numpy as np

from wnlib import fits, lockstep
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import squared_norm

ELSEWHERE = 0.01  # ‖M*M(Z − A)‖_F over the ‖Z − A‖_F asked for, below which Z fits the data, be it A or not


def arrivals(M, step, state, A, steps, tolerance, every, lap):
    """Return the step (trials,) at which ‖Z − A‖_F² is first seen within `tolerance`, inf for never.

    It is looked at each `every` steps; after each `lap` those trials leave that have arrived, have diverged, or fit
    their data with another matrix. Gradients in the residual form, which single precision serves at every scale.
    """
    found, on = np.full(A.shape[0], np.inf), np.arange(A.shape[0])
    for begin in range(0, steps, lap):
        count = min(lap, steps - begin)
        look = {"record": np.arange(0, count + 1, every), "tolerance": tolerance}
        trace = lockstep.run(M, {"": lockstep.Run(step, state, None, A)}, count, **look)[""]
        found[on] = np.fmin(found[on], begin + fits.first_below(trace.steps, trace.squared_error, tolerance))
        if begin + lap >= steps:
            break
        (E,) = M.normal(trace.state.estimate - A)
        elsewhere = to_numpy(squared_norm(E)) <= ELSEWHERE**2 * tolerance
        left = np.flatnonzero((trace.status == lockstep.Status.MAX_STEPS) & ~elsewhere)
        if not left.size:
            break
        on, M, A, state = on[left], M.members(left), members(A, left), members(trace.state, left)
    return found


def members(stack, which):
    """Return some members of a stack, or of each in a state, along its first axis: `which`, NumPy integers."""
    if isinstance(stack, tuple):
        return type(stack)(*(members(field, which) for field in stack))
    xp = array_namespace(stack)
    return xp.take(stack, xp.asarray(which), axis=0)


def single(stack):
    """Return a stack, or each in a state, in single precision."""
    if isinstance(stack, tuple):
        return type(stack)(*map(single, stack))
    xp = array_namespace(stack)
    return xp.astype(stack, xp.float32)
