"""The lazy operator: an operator at all, and Gaussian measurements in law, whatever is asked in whatever order."""

import math

import numpy as np
import pytest
import scipy.stats

from wnlib import lockstep, methods, operators, problems
from wnlib.backend import to_numpy
from wnlib.linalg import dim_sym, smat, svec, sym
from wnlib.operators import lazy
from wnlib.operators.lazy import Lazy


def draws(count, seed=0):
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(count)]


def asked(m, count, rng, columns=3):
    return [sym(rng.standard_normal((columns, m, m))) for _ in range(count)]


@pytest.mark.parametrize("n", [7, 21, 400])  # below, at and above d = 21
def test_it_is_one_fixed_symmetric_operator_however_it_is_asked(n):
    rng = np.random.default_rng(n)
    M = lazy(6, n, rng, tolerance=0.0)
    first = asked(6, 12, rng)
    answers = [M.normal(Z)[0] for Z in first]
    for Z, answer in zip(first, answers, strict=True):
        np.testing.assert_allclose(M.normal(Z)[0], answer, atol=1e-12)
    np.testing.assert_allclose(M.normal(first[0] - 2 * first[1])[0], answers[0] - 2 * answers[1], atol=1e-12)
    assert np.sum(first[0] * answers[1]) == pytest.approx(np.sum(answers[0] * first[1]), abs=1e-12)
    (gram,) = M.normal(smat(np.eye(21)))
    values = np.linalg.eigvalsh(svec(gram))
    assert np.sum(values > 1e-12) == min(n, 21) and values.min() > -1e-12
    assert len(M.rows) == min(n, 21)


def test_several_stacks_share_one_pass_and_what_is_drawn():
    rng = np.random.default_rng(5)
    M, Z = lazy(6, 50, rng), asked(6, 2, rng)
    together = M.normal(*Z)
    known = len(M.rows)
    for mine, other in zip(together, [M.normal(z)[0] for z in Z], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-12)
    assert len(M.rows) == known == 6


def test_directions_stay_orthonormal_over_many_nearly_dependent_queries():
    """2000 queries a thousandth apart: without the second Gram–Schmidt they drift (see the mutations below)."""
    assert orthonormality(lazy(70, 10**5, np.random.default_rng(1), tolerance=0.0)) < 1e-12


def orthonormality(M):
    rng = np.random.default_rng(2)
    Z = sym(rng.standard_normal((8, 70, 70)))
    for _ in range(75):
        Z = Z + 1e-9 * sym(rng.standard_normal(Z.shape))
        M.normal(Z)
    U = M.directions.combine(np.eye(len(M.directions), dtype=M.directions.like.dtype))
    assert len(U) == 600
    return np.abs(U @ U.T - np.eye(len(U))).max()


@pytest.mark.parametrize("storage, accuracy", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-8, 1e-12])
def test_queries_that_nearly_agree_may_come_in_one_call(storage, accuracy, gap):
    """What is left of one beside the other is small, and orthogonal to all that is known only once it has size 1."""
    rng = np.random.default_rng(7)
    M = lazy(30, 5000, rng, tolerance=0.0, storage=storage)
    old, (one, change) = asked(30, 1, rng, 60)[0], asked(30, 1, rng, 2)[0]
    M.normal(old)
    M.normal(np.stack([one, one + gap * change]))
    Z = np.concatenate([old, [one, change]])
    gram = svec(Z) @ svec(M.normal(Z)[0]).T
    assert np.abs(gram - gram.T).max() <= accuracy * np.abs(gram).max()
    U = M.directions.combine(np.eye(len(M.directions), dtype=M.directions.like.dtype))
    assert np.abs(U @ U.T - np.eye(len(U))).max() <= 10 * accuracy


def test_a_question_asked_twice_in_one_call_leaves_room_for_the_others():
    rng = np.random.default_rng(8)
    M, (a, b) = lazy(6, 2, rng, tolerance=0.0), asked(6, 1, rng, 2)[0]
    first = M.normal(np.stack([a, a, b]))[0]
    assert len(M.rows) == 2
    np.testing.assert_allclose(M.normal(np.stack([a, a, b]))[0], first, atol=1e-12)


def test_the_tolerance_bounds_the_error_of_a_product():
    """Queries 1e-4 apart are answered to about 1e-3 by an operator that draws nothing for them, and exactly at 0."""
    rng = np.random.default_rng(3)
    Z = sym(rng.standard_normal((30, 30)))
    near = Z + 1e-4 * sym(rng.standard_normal((30, 30)))
    rough = lazy(30, 2000, np.random.default_rng(4), tolerance=1e-3)
    (a,), (b,) = rough.normal(Z), rough.normal(near)
    assert len(rough.rows) == 1
    assert 0 < np.linalg.norm(b - a) < 5e-4 * np.linalg.norm(a)
    fine = lazy(30, 2000, np.random.default_rng(4), tolerance=0.0)
    fine.normal(Z), fine.normal(near)
    assert len(fine.rows) == 2


@pytest.mark.parametrize("storage, accuracy", [("float64", 1e-12), ("float32", 3e-5)])
def test_storage_keeps_its_relative_accuracy_at_every_scale(storage, accuracy):
    rng = np.random.default_rng(6)
    M, Z = lazy(12, 500, rng, storage=storage), asked(12, 1, rng)[0]
    (big,), (small,) = M.normal(Z), M.normal(1e-20 * Z)
    np.testing.assert_allclose(1e20 * small, big, rtol=0, atol=accuracy * np.abs(big).max())


def test_memory_is_refused_in_one_line_before_it_is_gone(monkeypatch):
    monkeypatch.setattr("wnlib.backend.available_memory", lambda xp: 10**4)
    M = lazy(40, 10**6, np.random.default_rng(0))
    with pytest.raises(
        MemoryError, match=r"operator 'lazy' with 0 rows of 820, to hold 128 more, needs .*storage"
    ) as no:
        M.normal(np.eye(40))
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    "bad, line",
    [
        ({"n": 0}, "n = 0: must be an integer >= 1"),
        ({"tolerance": -1}, "tolerance = -1: must be a finite number >= 0"),
        ({"storage": "float16"}, "storage = 'float16': must be one of 'float64', 'float32'"),
        ({"rng": 3}, "rng = 3: must be a numpy.random.Generator"),
    ],
)
def test_bad_input_is_refused_in_one_line(bad, line):
    with pytest.raises((ValueError, TypeError), match=line):
        lazy(**{"m": 5, "n": 10, "rng": np.random.default_rng(0)} | bad)


def test_a_stack_draws_for_each_generator_alone():
    Z = np.stack(asked(5, 3, np.random.default_rng(0)))
    (together,) = lazy(5, 40, draws(3)).normal(Z)
    for z, g, answer in zip(Z, draws(3), together, strict=True):
        np.testing.assert_allclose(lazy(5, 40, g).normal(z)[0], answer, atol=1e-13)


def test_on_every_backend(xp):
    M = lazy(5, 40, np.random.default_rng(0), xp)
    Z = asked(5, 1, np.random.default_rng(1))[0]
    (mine,) = M.normal(xp.asarray(Z))
    (wanted,) = lazy(5, 40, np.random.default_rng(0)).normal(Z)
    np.testing.assert_allclose(to_numpy(mine), wanted, atol=1e-12)
    assert to_numpy(M.noise(2, np.random.default_rng(2))).shape == (2, 5, 5)


# --- the law ---------------------------------------------------------------------------------------------------

M_, R_A, R, COUNT = 6, 2, 3, 400
METHODS = {
    "WN": (methods.weight_normalization(0.3), methods.start_directed, 6),
    "PWN1": (methods.one_product_weight_normalization(), methods.start_conjugate, 4),
    "GD": (methods.gradient_descent(0.1), lambda m, r, rng: methods.start_factored(m, r, rng, 1.0), 6),
}


def final_errors(make, n, noise_std, seed):
    """ln‖Z − A‖² of COUNT trajectories of each method, every one with an operator and a start of its own."""
    streams = problems.streams(seed, COUNT)
    A = problems.truth(M_, problems.spectrum(R_A, 3.0), streams.truth).A
    M = make(M_, n, streams.operator)
    data = operators.data(M, A, noise_std, streams.noise)
    errors = {}
    for name, (step, start, steps) in METHODS.items():  # one operator for all, one after the other
        run = lockstep.Run(step, start(M_, R, streams.start), data, A)
        errors[name] = np.log(lockstep.run(M, {"run": run}, steps)["run"].squared_error[-1])
    return errors


def p_values(one, other):
    return [scipy.stats.ks_2samp(one[name], other[name]).pvalue for name in METHODS]


def holm(p):
    """The least p-value after Holm's correction."""
    p = np.sort(p)
    return float(np.max(np.minimum.accumulate((len(p) - np.arange(len(p))) * p)[:1]))


@pytest.fixture(scope="module")
def dense():
    return {
        (n, s): final_errors(operators.gaussian, n, s, seed=10 + k) for k, (n, s) in enumerate([(15, 0.0), (60, 0.3)])
    }


def test_trajectories_have_the_law_of_dense_measurements(dense):
    """On both sides of d = 21, with and without noise; and at n > d that of the triangular operator too."""
    p = []
    for (n, s), wanted in dense.items():
        mine = final_errors(lambda m, n, rng: lazy(m, n, rng, tolerance=0.0), n, s, seed=50)
        p += p_values(mine, wanted)
        if n > dim_sym(M_):
            p += p_values(mine, final_errors(operators.triangular, n, s, seed=90))
    assert holm(p) > 0.01


class ForgetsRows:
    """A generator whose χ² has n degrees of freedom however many rows have been drawn."""

    def __init__(self, rng, n):
        self.standard_normal, self.rng, self.n = rng.standard_normal, rng, n

    def chisquare(self, degrees):
        return self.rng.chisquare(np.full(np.shape(degrees), self.n))


def wrong_degrees(self, fresh, draw=Lazy._draw):
    rng, self._rng = self._rng, ForgetsRows(self._rng, self.n)
    draw(self, fresh)
    self._rng = rng


def not_orthogonal(self, count):
    return self._rng.standard_normal((count, dim_sym(self.m))) / math.sqrt(self.n)


@pytest.mark.slow
@pytest.mark.parametrize("name, mutant", [("_draw", wrong_degrees), ("_orthogonal_normals", not_orthogonal)])
def test_a_wrong_operator_is_told_from_dense_measurements(dense, monkeypatch, name, mutant):
    monkeypatch.setattr(Lazy, name, mutant)
    mine = final_errors(lambda m, n, rng: lazy(m, n, rng, tolerance=0.0), 15, 0.0, seed=50)
    assert holm(p_values(mine, dense[15, 0.0])) < 1e-3


def test_gram_and_schmidt_once_is_not_enough(monkeypatch):
    monkeypatch.setattr(Lazy, "_orthogonal_again", lambda self, u: [u[i : i + 1, :] for i in range(u.shape[0])])
    assert orthonormality(lazy(70, 10**5, np.random.default_rng(1), tolerance=0.0)) > 1e-9
