"""The cells of the frontier: bisection against every n, IRLS against its own definition, refusals."""

import json

import numpy as np
import pytest

from wnlib import operators, problems
from wnlib.linalg import smat, svec
from wnlib.maps import frontier

PARAMETERS = {"m": 8, "true_ranks": [1, 2], "m_large": 9, "true_ranks_large": [2], "kappas": [5.0], "points": 7}
PARAMETERS |= {"trials": 3, "batch": 2, "products": 150, "products_slow": 200, "seed": 0, "backend": "numpy"}


def test_bisection_finds_what_trying_every_n_finds():
    [cell] = [
        p for f, p, _ in frontier.cells(**{**PARAMETERS, "batch": 3})
        if (p["method"], p["m"], p["r_A"], p["r"]) == ("IRLS", 8, 2, 2)
    ]  # fmt: skip
    found = frontier.least(**cell)
    assert json.loads(json.dumps(found)) == found
    numbers = frontier.samples(8, 2, 7)
    for trial, place in enumerate(found["least"]):
        recovers = []
        for n in numbers:
            streams = problems.streams(0, 3)
            A = problems.truth(8, problems.spectrum(2, 5.0), [streams.truth[trial]]).A
            M = operators.operator("dense", 8, n, [streams.operator[trial]])
            recovers.append(np.isfinite(frontier.irls(M, A, n, 2, None, None, (0.01 / 5) ** 2)[0]))
        assert recovers == sorted(recovers), "not monotone: choose another seed"
        assert place == recovers.count(False)


def test_trials_come_out_alike_in_any_batch():
    def joined(batch, method):
        cells = [p for f, p, _ in frontier.cells(**{**PARAMETERS, "batch": batch}) if p["method"] == method]
        rows = [p | {"out": frontier.least(**p)} for p in cells if (p["m"], p["r_A"], p["r"]) == (8, 2, 4)]
        return [k for row in sorted(rows, key=lambda row: row["first"]) for k in row["out"]["least"]]

    for method in ("PWN1", "AMP"):
        assert joined(1, method) == joined(3, method)


def test_irls_takes_the_least_weighted_norm_among_the_matrices_that_fit():
    """The first two iterates by their definition: minimise ⟨Z, W(Z)⟩ over the null space of M, with W as a matrix."""
    m, n, rng = 5, 9, np.random.default_rng(1)
    M = operators.operator("dense", m, n, [rng])
    A = problems.truth(m, [1.0, 0.5], [rng]).A
    rows, basis = M.matrix[0], smat(np.eye(m * (m + 1) // 2))
    y, inverse, eps = rows @ svec(A[0]), np.eye(m), np.inf
    for k in range(4):
        W = svec(inverse @ basis @ inverse)
        null = np.linalg.svd(rows)[2][n:].T
        particular = np.linalg.pinv(rows) @ y
        Z = smat(particular - null @ np.linalg.solve(null.T @ W @ null, null.T @ W @ particular))
        error = np.sum((Z - A[0]) ** 2)
        assert frontier.irls(M, A, n, 2, None, None, error * (1 + 1e-6))[0] == k + 1
        values, V = np.linalg.eigh(Z)
        eps = min(eps, np.sort(abs(values))[-3])
        inverse = V @ np.diag(1 / np.maximum(abs(values), eps)) @ V.T


def test_every_method_recovers_from_many_measurements_and_none_from_fewer_than_the_freedom():
    truth = problems.truth(10, problems.spectrum(2, 2.0), problems.streams(0, 2).truth).A
    for n, expected in ((50, True), (15, False)):
        M = operators.operator("dense", 10, n, problems.streams(0, 2).operator)
        for name, method in frontier.METHODS.items():
            found = method(M, truth, n, 2 if name == "IRLS" else 4, problems.streams(0, 2).start, 2000, 1e-6)
            assert np.any(np.isfinite(found)) == expected, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"true_ranks": [5]}, "r = 10"),
        ({"kappas": [0.5]}, "kappa = 0.5"),
        ({"trials": 0}, "trials = 0"),
        ({"products": 0}, "products = 0"),
        ({"backend": "numpi"}, "did you mean 'numpy'?"),
    ],
)
def test_bad_parameters_are_refused_before_any_work(change, message):
    with pytest.raises(ValueError, match=message):
        frontier.cells(**{**PARAMETERS, **change})
