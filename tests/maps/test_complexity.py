"""The cells of the recovery map: RIP bounds against exact values, batches that change nothing, refusals."""

import json

import numpy as np
import pytest

from wnlib import operators, problems
from wnlib.linalg import dim_sym, smat, svec
from wnlib.maps import complexity

PARAMETERS = {
    "m": 8,
    "r_A": 2,
    "ranks": [4, 8],
    "kappas": [2.0, 5.0],
    "points": 4,
    "trials": 4,
    "batch": 2,
    "steps_wn": [60, 80],
    "steps_gd": [60, 60],
    "steps_pwn": [60, 60],
    "alpha": 1e-3,
    "rip_ranks": [4],
    "rip_starts": 3,
    "seed": 0,
    "backend": "numpy",
}


def operator(m, n, seed):
    """The matrix of M*M (d, d) in svec coordinates that `rip` draws."""
    generators = problems.streams(seed, 1).operator
    kind = "triangular" if n >= dim_sym(m) else "dense"
    (columns,) = operators.operator(kind, m, n, generators[0]).normal(smat(np.eye(dim_sym(m))))
    return svec(columns)


@pytest.mark.parametrize("n", [30, 60, 400])
def test_rip_at_full_rank_is_the_spectrum_of_the_gram_matrix(n):
    m = 6
    values = np.linalg.eigvalsh(operator(m, n, 1))
    found = complexity.rip(m=m, n=n, k=m, starts=4, seed=1, backend="numpy")
    assert max(found["upper"]) == pytest.approx(values[-1] - 1, rel=1e-3)
    assert max(found["lower"]) == pytest.approx(1 - values[0], rel=1e-2)
    assert max(found["upper"]) <= values[-1] - 1 + 1e-12 and max(found["lower"]) <= 1 - values[0] + 1e-12


def test_rip_at_rank_one_is_the_best_on_a_fine_grid():
    """Symmetric 2×2 matrices of rank one and size one are ±aaᵀ: one angle describes them all."""
    m, n = 2, 5
    angles = np.linspace(0, np.pi, 20_001)
    a = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    z = svec(a[:, :, None] * a[:, None, :])
    sizes = np.sum((z @ operator(m, n, 3)) * z, axis=-1)
    found = complexity.rip(m=m, n=n, k=1, starts=6, seed=3, backend="numpy")
    assert max(found["upper"]) == pytest.approx(sizes.max() - 1, abs=1e-6)
    assert max(found["lower"]) == pytest.approx(1 - sizes.min(), abs=1e-6)


def test_rip_grows_with_rank_and_falls_with_samples():
    def delta(n, k):
        found = complexity.rip(m=10, n=n, k=k, starts=6, seed=0, backend="numpy")
        return max(found["upper"]), max(found["lower"])

    few, many, full = delta(200, 2), delta(200, 5), delta(200, 10)
    assert few[0] < many[0] < full[0] and few[1] < many[1] < full[1]
    for a, b in zip(delta(20_000, 5), many, strict=True):
        assert 0 < a < b / 5


def recovered(**changes):
    """(method, κ) → r → n: how many of the trials recover A, all batches together."""
    found = {}
    for function, asked, _ in complexity.cells(**{**PARAMETERS, **changes}):
        if function is complexity.recoveries:
            each, at = complexity.recoveries(**asked), (asked["method"], asked["kappa"])
            assert json.loads(json.dumps(each)) == each
            found[at] = found.get(at, 0) + np.array(each["recovered"])
    return found


def test_trials_recover_alike_in_any_batch_and_from_any_number_of_samples(monkeypatch):
    """Trying every n, trial by trial, finds what is taken to be so beyond an n where all four recover, or none."""
    walked, every = recovered(batch=4), {}
    first, last = complexity.samples(8, 2, 4)[0], complexity.samples(8, 2, 4)[-1]
    for n in complexity.samples(8, 2, 4):
        monkeypatch.setattr(complexity, "samples", lambda m, r_A, points, n=n: [n])
        for at, counts in recovered(batch=1, rip_ranks=[]).items():
            every.setdefault(at, []).append(counts[..., 0])
    for at, counts in walked.items():
        np.testing.assert_array_equal(counts, np.stack(every[at], axis=-1))
    assert (first, last) == (15, 360)
    assert np.all(walked["PWN1", 2.0][:, -1] == 4) and np.all(walked["PWN1", 2.0][:, 0] < 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": [1]}, "r = 1"),
        ({"rip_ranks": [9]}, "r = 9"),
        ({"rip_ranks": [4, 5]}, "rip_ranks = .4, 5.: must be among ranks = .4, 8."),
        ({"kappas": [2.0, 0.5]}, "kappa = 0.5"),
        ({"steps_gd": [60]}, "steps_gd = .60.: must be one budget for each"),
        ({"steps_wn": [60, 0]}, "steps_wn = 0"),
        ({"points": 1}, "points = 1"),
        ({"trials": 0}, "trials = 0"),
        ({"batch": 0}, "batch = 0"),
        ({"alpha": 0.0}, "alpha = 0"),
        ({"rip_starts": 0}, "rip_starts = 0"),
        ({"backend": "numpi"}, "did you mean 'numpy'?"),
    ],
)
def test_bad_parameters_are_refused_before_any_work(change, message):
    with pytest.raises(ValueError, match=message):
        complexity.cells(**{**PARAMETERS, **change})
