"""`make bench`: the products with M*M against this machine's own limits and against what others do. Medians, one run.

Every ratio compares two things timed in turn in this process. Not a test: times depend on the machine and its load.
"""

import time

import numba
import numpy as np
import threadpoolctl

from wnlib import fused, lockstep, methods, problems, sensing
from wnlib.linalg import dim_sym

REPEATS = 7


def medians(*functions):
    """The median seconds of each function, called in turn."""
    for function in functions:
        function()
    times = [[] for _ in functions]
    for _ in range(REPEATS):
        for function, record in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    return [float(np.median(record)) for record in times]


@numba.njit(fastmath=True, nogil=True)
def _sum(x):
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i]
    return total


def read(x):
    """Read every entry once, on all threads."""
    parts = np.array_split(x, 8)
    return sum(fused._pool().map(_sum, parts))


def blocked_blas(blocks, X):
    """RᵀRX by two BLAS products for each block of rows of the triangle, on all threads."""
    out = np.zeros_like(X)
    with threadpoolctl.threadpool_limits(fused.threads()):
        for start, block in blocks:
            out[:, start:] += (X[:, start:] @ block.T) @ block
    return out


def products(d=20_000):
    """The fused pass over a packed triangle, against the read bandwidth and blocked BLAS."""
    rng = np.random.default_rng(0)
    R = fused.draw_normals(fused.triangle_size(d), rng)
    blocks = [(i, rng.standard_normal((min(500, d - i), d - i), dtype=np.float32)) for i in range(0, d, 500)]
    square = rng.standard_normal((3000, 3000), dtype=np.float32)

    def gemm():
        with threadpoolctl.threadpool_limits(fused.threads()):
            return square @ square

    (seconds,) = medians(gemm)
    print(f"GEMM, float32: {2 * 3000**3 / seconds / 1e9:.0f} GFLOP/s on {fused.threads()} threads")
    print(f"triangle of d = {d}, float32, {R.nbytes / 2**30:.2f} GiB")
    print("columns | GB/s | of read bandwidth | GFLOP/s | faster than blocked BLAS")
    for columns in (1, 3, 6, 24):
        X = rng.standard_normal((columns, d), dtype=np.float32)
        ours, bandwidth, blas = medians(
            lambda X=X: fused.normal_product(R, X, triangle=True), lambda: read(R), lambda X=X: blocked_blas(blocks, X)
        )
        rate = 4 * R.size * columns / ours / 1e9
        print(
            f"{columns:7d} | {R.nbytes / ours / 1e9:4.1f} | {bandwidth / ours:17.0%} | {rate:7.0f} | {blas / ours:.1f}×"
        )


def peers(m=60, n=6000, r=8, r_A=3):
    """One iteration of WN against the textbook's sums over full matrices and Pymanopt's steepest descent."""
    import pymanopt

    seeds = problems.streams(0, 1)
    truth = problems.truth(m, problems.spectrum(r_A, 3), seeds.truth[0])
    operator = sensing.operator("triangular", m, n, seeds.operator[0])
    start = methods.start_directed(m, r, seeds.start[0])
    run = lockstep.Run(methods.weight_normalization(0.5), start, sensing.data(operator, truth.A), truth.A)
    Ms = np.random.default_rng(1).standard_normal((n, m, m)) / np.sqrt(n)
    Ms = (Ms + np.swapaxes(Ms, 1, 2)) / 2
    y = np.einsum("ijk,jk->i", Ms, truth.A)

    def einsum():
        for _ in range(2):
            np.einsum("i,ijk->jk", np.einsum("ijk,jk->i", Ms, truth.A) - y, Ms)

    steps = 20
    flat = Ms.reshape(n, -1)
    manifold = pymanopt.manifolds.Product([pymanopt.manifolds.Stiefel(m, r), pymanopt.manifolds.Euclidean(r, r)])

    @pymanopt.function.numpy(manifold)
    def cost(X, Theta):
        residual = flat @ (X @ Theta @ X.T).reshape(-1) - y
        return 0.25 * residual @ residual

    @pymanopt.function.numpy(manifold)
    def gradient(X, Theta):
        E = ((flat @ (X @ Theta @ X.T).reshape(-1) - y) @ flat).reshape(m, m)
        return [E @ X @ Theta, 0.5 * X.T @ E @ X]

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    optimizer = pymanopt.optimizers.SteepestDescent(max_iterations=5, verbosity=0)
    initial = [start.X, np.eye(r)]
    record = [0, steps]
    ours, textbook, descent = medians(
        lambda: lockstep.run(operator, {"wn": run}, steps, record=record),
        einsum,
        lambda: optimizer.run(problem, initial_point=initial),
    )
    print(f"m = {m}, n = {n} (d = {dim_sym(m)}), r = {r}: an iteration of WN takes {1e3 * ours / steps:.2f} ms")
    print(f"  textbook einsum, two products: {textbook / (ours / steps):.0f}× as long")
    print(f"  Pymanopt's steepest descent, one iteration: {descent / 5 / (ours / steps):.0f}× as long")


def small(m=10, r=5, r_A=3, batch=30, steps=2000):
    """Many small runs together: microseconds for a step of one trajectory."""
    seeds = problems.streams(0, batch)
    truth = problems.truth(m, problems.spectrum(r_A, 50), seeds.truth)
    operator = sensing.operator("triangular", m, 60_000, seeds.operator[0])
    start = methods.start_directed(m, r, seeds.start)
    run = lockstep.Run(methods.weight_normalization(1.0), start, sensing.data(operator, truth.A), truth.A)
    (seconds,) = medians(lambda: lockstep.run(operator, {"wn": run}, steps, record=[0, steps]))
    print(f"m = {m}, batch of {batch}: {1e6 * seconds / steps / batch:.1f} µs for a step of one trajectory")


if __name__ == "__main__":
    with threadpoolctl.threadpool_limits(1):  # as in a notebook
        products()
        peers()
        small()
