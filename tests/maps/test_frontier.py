"""The cells of the frontier: the walk down n and its early decisions, IRLS against its own definition, refusals."""

import json

import numpy as np
import pytest

from wnlib import operators, problems
from wnlib.linalg import smat, svec
from wnlib.maps import frontier

PARAMETERS = {"m": 8, "true_ranks": [1, 2], "m_large": 9, "true_ranks_large": [2], "kappas": [5.0]}
PARAMETERS |= {"factors": [1.1, 1.3, 2.0, 3.0], "duels": [1.3], "trials": 4, "lead": 4}
PARAMETERS |= {"products": 150, "products_slow": 200, "seed": 0, "backend": "numpy"}


def asked(function, **changes):
    """The parameters of the cells of `function` for m = 8, r_A = 2."""
    cells = frontier.cells(**{**PARAMETERS, **changes})
    return [p for f, p, _ in cells if f is function and (p["m"], p["r_A"]) == (8, 2)]


def test_going_down_finds_what_trying_every_n_finds():
    [cell] = asked(frontier.spent)
    found = frontier.spent(**cell)
    assert json.loads(json.dumps(found)) == found
    products = found["products"][frontier.ROWS.index(("IRLS", True))]
    assert products[2:] == [[], []] and any(x >= 0 for x in products[1])  # from 1.35 dof down
    for n, tried in zip(frontier.samples(8, 2, PARAMETERS["factors"])[:2], products[:2], strict=True):
        streams = problems.streams(0, 4)
        A = problems.truth(8, problems.spectrum(2, 5.0), streams.truth).A
        M = operators.Dense(operators.operator("dense", 8, n, streams.operator).matrix.astype(np.float32))
        solved = frontier.irls(M, A, n, 2, None, None, (0.01 / 5) ** 2)
        np.testing.assert_array_equal(tried, np.where(np.isfinite(solved), solved, -1))


def test_trials_come_out_alike_however_many_are_tried_at_once(monkeypatch):
    """A lead that is never reached tries them all, in one look or in several."""
    monkeypatch.setattr(frontier, "ROWS", [("PWN1", False), ("IRLS", True), ("AMP", False)])
    shared = {"m": 8, "n": 25, "r_A": 2, "kappa": 5.0, "products": 150, "products_slow": 200, "seed": 0}
    whole, part = (frontier._attempts(first=k, trials=4 - k, backend="numpy", **shared) for k in (0, 2))
    for row in frontier.ROWS:
        assert whole(*row, np.ones(4))[2:].tolist() == part(*row, np.ones(2)).tolist()
        assert whole(*row, [0, 0, 0, 1])[3] == part(*row, np.ones(2))[1]


@pytest.mark.parametrize(
    ("needs", "tried"),
    [
        ([12] * 20, {36: 5, 30: 5, 20: 5, 17: 5}),  # all recover everywhere
        ([33] * 20, {36: 5, 30: 5}),  # none from the second n down
        ([12, 20] * 10, {36: 5, 30: 5, 20: 5, 17: 20}),  # half and half: never decided, all are tried
        ([33, 20, 20, 20, 20, 20, 20, 17, 17, 17] * 2, {36: 5, 30: 10, 20: 10, 17: 5}),  # four to one is not enough
    ],
)
def test_an_n_is_decided_as_soon_as_successes_and_failures_are_a_lead_apart(monkeypatch, needs, tried):
    asked_of = []

    def stub(M, A, n, r, rng, products, tolerance):
        which = [int(g.integers(10**9)) for g in rng]
        asked_of.extend((n, i) for i in which)
        return np.array([1.0 if n >= need_of[i] else np.inf for i in which])

    need_of = dict(zip((int(g.integers(10**9)) for g in problems.streams(0, 20).start), needs, strict=True))
    monkeypatch.setattr(frontier, "METHODS", {"stub": stub})
    monkeypatch.setattr(frontier, "ROWS", [("stub", False)])
    [cell] = asked(frontier.spent, trials=20, lead=5)
    [found] = frontier.spent(**cell)["products"]
    numbers = frontier.samples(8, 2, PARAMETERS["factors"])
    assert {n: len(each) for n, each in zip(numbers, found, strict=True) if each} == tried
    for n, each in zip(numbers, found, strict=True):
        assert [x >= 0 for x in each] == [n >= x for x in needs[: len(each)]]
    failed = {}
    for n, i in asked_of:  # who has failed at a larger n is not tried again
        assert failed.get(i, 0) <= n
        failed |= {i: n + 1} if n < need_of[i] else {}


def test_a_duel_counts_the_trials_by_which_a_peer_leads():
    """With recover spoilt, its peers have something to win; else they are not even tried."""
    [cell] = asked(frontier.duel, duels=[2.0])
    streams = problems.streams(0, 4)
    A = problems.truth(8, problems.spectrum(2, 5.0), streams.truth).A
    M = operators.operator("dense", 8, 30, streams.operator)
    found = frontier.METHODS["PWN1"](M, A, 30, 4, streams.start, 150, (0.01 / 5) ** 2)
    lost = frontier.duel(**cell | {"products_slow": 1})
    assert lost["recover"] == 0 and lost["PWN1"] == np.sum(np.isfinite(found)) > 0
    won = frontier.duel(**cell)
    assert won == {name: 4 if name == "recover" else 0 for name in frontier.UNTOLD}


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
        inverse = V @ np.diag((values**2 + eps**2) ** -0.5) @ V.T


def test_every_method_recovers_from_many_measurements_and_none_from_fewer_than_the_freedom():
    truth = problems.truth(10, problems.spectrum(2, 2.0), problems.streams(0, 2).truth).A
    for n, expected in ((50, True), (15, False)):
        M = operators.operator("dense", 10, n, problems.streams(0, 2).operator)
        for name, method in frontier.METHODS.items():
            found = method(M, truth, n, 2 if name == "IRLS" else 4, problems.streams(0, 2).start, 1000, 1e-6)
            assert np.any(np.isfinite(found)) == expected, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"true_ranks": [5]}, "r = 10"),
        ({"kappas": [0.5]}, "kappa = 0.5"),
        ({"trials": 0}, "trials = 0"),
        ({"lead": 0}, "lead = 0"),
        ({"products": 0}, "products = 0"),
        ({"backend": "numpi"}, "did you mean 'numpy'?"),
    ],
)
def test_bad_parameters_are_refused_before_any_work(change, message):
    with pytest.raises(ValueError, match=message):
        frontier.cells(**{**PARAMETERS, **change})
