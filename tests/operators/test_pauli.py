import functools
import itertools

import numpy as np
import pytest

from wnlib import lockstep, methods, operators, problems
from wnlib.backend import to_numpy
from wnlib.linalg import mH, sym

ONE = {"I": np.eye(2), "X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1, -1])}


def kronecker(string):
    return functools.reduce(np.kron, (ONE[letter] for letter in string))


def hermitian(m, seed=0):
    rng = np.random.default_rng(seed)
    return sym(rng.standard_normal((m, m)) + 1j * rng.standard_normal((m, m)))


def pure(m, seed=0):
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((m, 1)) + 1j * rng.standard_normal((m, 1))
    return sym(v @ mH(v) / np.sum(np.abs(v) ** 2))


def test_strings_are_kronecker_products(xp):
    strings = ["".join(letters) for letters in itertools.product("IXYZ", repeat=3)]
    Z = hermitian(8)
    every = operators.Pauli(strings, xp=xp)
    values = [np.trace(kronecker(string) @ Z) for string in strings]
    np.testing.assert_allclose(to_numpy(every.measure(xp.asarray(Z))) / every.scale, values, atol=1e-13)
    np.testing.assert_allclose(to_numpy(every.normal(xp.asarray(Z))[0]), Z, atol=1e-13)  # all of them: the identity
    assert list(every.weight) == [3 - string.count("I") for string in strings]


def test_drawn_strings_are_different_and_those_it_names():
    m, n = 64, 500  # two chunks of the transform
    operator = operators.pauli(m, n, np.random.default_rng(1))
    assert len(set(operator.strings)) == n
    Z = hermitian(m)
    for i in range(0, n, 50):
        assert operator.measure(Z)[i] == pytest.approx(operator.scale * np.trace(kronecker(operator.strings[i]) @ Z))


@pytest.mark.parametrize(
    "step, start, r",
    [
        (methods.weight_normalization(0.5), methods.start_directed, 2),
        (methods.one_product_weight_normalization(), methods.start_conjugate, 2),
        (methods.gradient_descent(0.3), methods.start_factored, 1),  # sublinear with more
    ],
)
def test_the_methods_find_a_complex_state_from_real_starts(xp, step, start, r):
    truth = xp.asarray(pure(16))
    operator = operators.pauli(16, 160, np.random.default_rng(2), xp)
    data = operators.data(operator, truth)
    run = lockstep.Run(step, start(16, r, np.random.default_rng(3), xp=xp), data, truth)
    trace = lockstep.run(operator, {"": run}, 400, tolerance=1e-12)[""]
    assert trace.status == "converged"


def test_shots_are_binomial_and_readout_errors_damp_by_weight():
    state, count, rng = pure(8, seed=4), 50, np.random.default_rng(5)
    operator = operators.pauli(8, 40, rng)
    for error in (0.0, 0.1):
        y = np.stack([operators.shots(operator, state, count, rng, error) for _ in range(4000)]) / operator.scale
        mean = operator.measure(state) / operator.scale * (1 - 2 * error) ** operator.weight
        deviation = np.sqrt((1 - mean**2) / count)
        assert np.all(np.abs(y.mean(axis=0) - mean) <= 5 * deviation / np.sqrt(4000) + 1e-12)
        np.testing.assert_allclose(y.std(axis=0), deviation, rtol=0.1, atol=1e-7)
        assert np.all(np.isclose(y * count % 2, 0) | np.isclose(y * count % 2, 2))  # counts: 2k − N


def test_shots_of_a_stack_are_those_of_its_members():
    states = np.stack([np.stack([pure(4, 2 * s + k) for k in range(2)]) for s in range(3)])
    draws = problems.streams(6, 3)
    together = operators.shots(operators.pauli(4, 9, draws.operator), states, 20, draws.noise)
    for s, (g, noise) in enumerate(zip(problems.streams(6, 3).operator, problems.streams(6, 3).noise, strict=True)):
        assert np.array_equal(together[s], operators.shots(operators.pauli(4, 9, g), states[s], 20, noise))


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda M: operators.pauli(6, 3, np.random.default_rng(0)), ValueError, r"^m = 6: must be 2\^q .* 4 or 8$"),
        (
            lambda M: operators.pauli(4, 17, np.random.default_rng(0)),
            ValueError,
            "^n = 17 with operator 'pauli': must be at most 16",
        ),
        (lambda M: operators.Pauli(["XI", "XQ"]), ValueError, "^strings has 'XQ': all must be letters of 'IXYZ'"),
        (lambda M: operators.Pauli(["XI", "X"]), ValueError, "^strings has 'X': .* as many in each"),
        (lambda M: operators.Pauli([1, 2]), TypeError, r"^strings = \[1, 2\]: must be text such as"),
        (lambda M: operators.Pauli([]), TypeError, "at least one"),
        (lambda M: operators.Pauli(["XI", "XI"]), ValueError, "^strings holds one twice"),
        (lambda M: M.measure(hermitian(8)), ValueError, r"^Z has shape \(8, 8\)"),
        (lambda M: M.adjoint(np.ones(3)), ValueError, "^w has 3 measurements"),
        (lambda M: operators.data(M, hermitian(4) + 1j), ValueError, "^A is not Hermitian: must equal its conj"),
        (lambda M: operators.shots(M, 3 * np.eye(4), 9, np.random.default_rng(0)), ValueError, "within ±1"),
        (lambda M: operators.shots(M, pure(4), 0, np.random.default_rng(0)), ValueError, "^count = 0"),
        (lambda M: operators.shots(M, pure(4), 9, np.random.default_rng(0), 0.6), ValueError, "^readout_error = 0.6"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(operators.Pauli(["II", "XZ"]))
