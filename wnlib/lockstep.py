"""Drives one or many runs over one operator: what they all ask for is answered in a single pass.

A run is a step (see methods), a start and its data. All runs advance together; in every round the driver collects
the matrices they yield, applies M*M once to the lot, and sends each its residual gradient. Whether a trajectory
runs alone or in a crowd changes nothing but rounding.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from wnlib import backend, progress, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import squared_norm

# A trajectory whose estimate has grown this far beyond its data and its start is not coming back.
DIVERGED = 1e6

# Beyond any run that ends; doubles hold every integer up to here.
MAX_STEPS = 10**15


class Status(StrEnum):
    """How a trajectory ended."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    DIVERGED = "diverged"


@dataclass(frozen=True, eq=False)
class Run:
    """What to run: `step` from `start` on `data` = M*(y) (..., m, m), errors measured against `truth` if it is known.

    With data = None the data are noise-free and the gradient M*(M(Z) − y) is taken in the residual form M*M(Z − A): it
    uses the known A, and Z − A is formed before the product, whose relative accuracy then holds at every scale. With
    truth = None nothing is known but the data: the residual gradient's size is recorded in the squared error's place.

    The leading axes of `data`, else of `truth`, are the batch. Those of `truth` and of each field of `start` are a
    prefix of the batch (seeds first, then conditions), or broadcast with it. `observe` maps names to functions
    (state, E) -> (..., ·), recorded beside the squared error; E() = M*(M(Z) − y) at that state, computed when called.
    """

    step: Callable
    start: Any
    data: Any = None
    truth: Any = None
    observe: dict[str, Callable] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trace:
    """What was recorded: NumPy arrays, time first, then the batch axes, then those of the quantity.

    `steps` (T,) are iteration counts from 0 on, `products` (T,) the products with M*M that a trajectory has taken up to
    each, those for the observers aside. `values["squared_error"]` (T, ...) is ‖Z − A‖_F²; without a truth there is
    `values["squared_residual"]` instead, ‖M*(M(Z) − y)‖_F². From the step a trajectory is found diverged its values are
    NaN. `status` and `ended` (...) name how and when each ended: `ended` is the first recorded step within tolerance,
    or found diverged, or else the last one. `state` is the last state, that of a diverged trajectory its start again.
    """

    steps: np.ndarray
    products: np.ndarray
    values: dict[str, np.ndarray]
    status: np.ndarray
    ended: np.ndarray
    state: Any

    @property
    def squared_error(self):
        """‖Z − A‖_F² (T, ...)."""
        return self.values["squared_error"]


def schedule(steps, per_decade=40, evenly=0):
    """Return the recorded iteration counts: 0, `steps`, and about `per_decade` a decade between, geometrically.

    `evenly` adds that many more at even distances, which a fit of a rate needs.
    """
    validate.integer("steps", steps, 1, MAX_STEPS)
    validate.integer("per_decade", per_decade, 1)
    validate.integer("evenly", evenly, 0)
    points = np.geomspace(1, steps, 2 + round(per_decade * np.log10(steps)))
    return np.unique(np.round(np.concatenate([[0], points, np.linspace(0, steps, 1 + evenly)])).astype(int))


def run(operator, runs, steps, *, record=None, tolerance=0.0, label=""):
    """Advance `runs` (name → Run) together for `steps` iterations; return name → Trace.

    `record` lists the iteration counts to record at (default: `schedule(steps)`; the last is `steps`). A run
    leaves early, at a recorded step, once every member of its batch is within `tolerance` (squared error, or squared
    residual without a truth) or has diverged; a member that diverges is named in `status` and never holds up the rest.
    A bar shows progress on a terminal.

    Raises ValueError or TypeError, before any work, for shapes that do not fit, entries that are not
    finite, and a bad schedule.
    """
    steps = validate.integer("steps", steps, 1, MAX_STEPS)
    tolerance = validate.real("tolerance", tolerance, 0)
    record = schedule(steps) if record is None else np.asarray(record)
    if not (record.size and record.dtype.kind in "iu" and record.min() >= 0 and record.max() <= steps):
        raise ValueError(f"record = {validate.shown(record.tolist())}: must be integers from 0 to steps = {steps}")
    record = np.union1d(record.astype(np.int64), [0, steps])
    if not hasattr(operator, "normal"):
        raise TypeError(
            f"operator = {validate.shown(operator)}: must be one of operators'; see operators.operator, and "
            "wnlib.recover for measurements of your own"
        )
    if not (isinstance(runs, dict) and runs and all(isinstance(r, Run) for r in runs.values())):
        raise TypeError(f"runs = {validate.shown(runs)}: must be a dict from names to Run, at least one")
    tracks = {name: _Track(name, r, operator) for name, r in runs.items()}
    active, t = list(tracks.values()), 0
    with np.errstate(over="ignore", invalid="ignore"), progress.bar(steps, label, "step") as bar:
        for until in record:
            for _ in range(t, until):
                _advance(operator, active)
                bar.update()
            t = int(until)
            for track, E in zip(active, _observed_gradients(operator, active), strict=True):
                track.record(t, E, tolerance)
            active = [track for track in active if not track.finished]
            if not active:
                break
    return {name: track.trace() for name, track in tracks.items()}


def _advance(operator, tracks):
    """One iteration of every track: rounds of asking and answering until each step has returned."""
    pending = [(track, track.run.step(track.state)) for track in tracks]
    asked = [next(step) for _, step in pending]
    while pending:
        answers = _gradients(operator, [track for track, _ in pending], asked)
        going_on, asked = [], []
        for (track, step), E in zip(pending, answers, strict=True):
            track.taken += 1
            try:
                asked.append(step.send(E))
                going_on.append((track, step))
            except StopIteration as done:
                track.state = done.value
        pending = going_on


def _gradients(operator, tracks, Zs):
    inputs = [Z if track.data is not None else Z - track.truth for Z, track in zip(Zs, tracks, strict=True)]
    products = zip(operator.normal(*inputs), tracks, strict=True)
    return [product if track.data is None else product - track.data for product, track in products]


def _observed_gradients(operator, tracks):
    """For each track a function that returns E at its state: one pass for all of them, made where one is called."""
    together = functools.cache(lambda: _gradients(operator, tracks, [track.state.estimate for track in tracks]))
    return [lambda k=k: together()[k] for k in range(len(tracks))]


class _Track:
    """A run under way: its state and what has been recorded of it."""

    def __init__(self, name, run, operator):
        m = operator.m
        self.name, self.run = name, run
        self.data = run.data
        known = run.truth if run.data is None else run.data
        if known is None:
            raise ValueError(
                f"run {name!r} has neither data nor truth: must have one; data = M*(y), see operators.data"
            )
        what = "truth" if run.data is None else "data"
        matrices = functools.partial(validate.matrices, complex=not getattr(operator, "real", True))
        matrices(f"{what} of run {name!r}", known, (m, m), symmetric=True)
        self.batch = tuple(known.shape[:-2])
        if self.batch[: len(operator.stack)] != operator.stack:
            raise ValueError(
                f"{what} of run {name!r} has leading shape {self.batch}: must begin with the operator's stack, "
                f"{operator.stack}"
            )
        self.judged = "squared_residual" if run.truth is None else "squared_error"
        if self.judged in run.observe:
            raise ValueError(f"observe of run {name!r} has {self.judged!r}: must not, it is recorded anyway")
        fields = {} if run.truth is None else {"truth": run.truth}
        fields |= {f: getattr(run.start, f) for f in getattr(run.start, "_fields", ())}
        for f, x in fields.items():
            matrices(f"{f} of run {name!r}", x, (m, m) if f == "truth" else (None, None))
        backend.common_namespace({f"{what} of run {name!r}": known, **fields})
        fields = {f: _to_batch(x, self.batch, f, name) for f, x in fields.items()}
        self.truth = fields.pop("truth", None)
        try:
            self.start = self.state = type(run.start)(**fields)
            asked = next(run.step(self.start))
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"start of run {name!r}, a {type(run.start).__name__}, is none that its step takes: {error}"
            ) from error
        matrices(f"estimate of run {name!r}", asked, (m, m))
        xp = array_namespace(known)
        scale = squared_norm(known) + squared_norm(self.start.estimate)
        self.limit = DIVERGED**2 * to_numpy(xp.where(scale > 0, scale, xp.ones_like(scale)))
        self.taken = 0  # products with M*M
        self.steps, self.products, self.rows = [], [], []
        self.converged, self.diverged = np.zeros((2, *self.batch), dtype=bool)
        self.ended = np.full(self.batch, -1)
        self.finished = False

    def record(self, t, E, tolerance):
        Z = self.state.estimate
        row = {self.judged: to_numpy(squared_norm(E() if self.truth is None else Z - self.truth))}
        lost = ~(to_numpy(squared_norm(Z)) <= self.limit) & ~self.diverged  # NaN counts as lost
        self.ended[lost] = t
        self.diverged = diverged = self.diverged | lost
        if np.any(diverged):  # set back to the start, so that nothing overflows and nobody waits
            self._restart(diverged)
        row |= {name: to_numpy(function(self.state, E)) for name, function in self.run.observe.items()}
        for name, value in row.items():
            row[name] = value = np.array(value, dtype=float)
            if value.shape[: len(self.batch)] != self.batch:
                raise ValueError(
                    f"observe[{name!r}] of run {self.name!r} gave shape {value.shape}: must begin with the batch, "
                    f"{self.batch}"
                )
            value[diverged] = np.nan
        within = ~diverged & (row[self.judged] <= tolerance)
        self.ended[within & ~self.converged] = t
        self.converged |= within
        self.steps.append(t)
        self.products.append(self.taken)
        self.rows.append(row)
        self.finished = bool(np.all(within | diverged))

    def _restart(self, members):
        xp = array_namespace(self.state.estimate)
        mask = xp.asarray(members)[..., None, None]
        self.state = type(self.state)(*(xp.where(mask, a, b) for a, b in zip(self.start, self.state, strict=True)))

    def trace(self):
        values = {name: np.stack([row[name] for row in self.rows]) for name in self.rows[0]}
        ended = np.where(self.ended < 0, self.steps[-1], self.ended)
        status = np.full(self.batch, Status.MAX_STEPS, dtype=object)
        status[self.converged], status[self.diverged] = Status.CONVERGED, Status.DIVERGED
        return Trace(np.array(self.steps), np.array(self.products), values, status, ended, self.state)


def _to_batch(x, batch, what, name):
    """`x` with its leading axes, a prefix of `batch` or broadcastable, spread over the whole batch."""
    xp = array_namespace(x)
    lead, tail = tuple(x.shape[:-2]), tuple(x.shape[-2:])
    padded = lead + (1,) * (len(batch) - len(lead))
    try:
        return xp.broadcast_to(xp.reshape(x, (*padded, *tail)), (*batch, *tail))
    except ValueError:
        raise ValueError(
            f"{what} of run {name!r} has leading shape {lead}: must be a prefix of its data's, {batch}, or broadcast "
            "with it"
        ) from None
