"""wnlib: weight normalization for overparameterized matrix sensing.

The mathematics, in the order a notebook uses it:

backend    which array library computes: NumPy or CuPy
problems   ground truths and their spectra; random streams by role
operators  measurement operators M, scaled so that E[M*M] is the identity on Sym(m); one family a file
stiefel    the Stiefel manifold: random points, tangent projection, retractions
methods    one step of each method, written like the paper's algorithm
peers      the competitors, in the same form
lockstep   drives many runs over one operator in one pass and records traces
recovery   your own measurements in, the matrix out; continuation is its method, from rank to rank
laws       the laws drawn over the curves
fits       rates, power laws and plateaus of recorded traces
claims     a claim in one line, checked in code
figures    style, saving, provenance
maps       the cells of the maps that are swept: recovery over measurements and columns, the frontier of samples

linalg, validate and progress hold the small shared tools. The machinery is in `collection`, which runs, checks and
publishes the notebooks, and `sweep`, which computes many independent cells; the mathematics imports neither.
"""

import importlib

# What a user needs, by the module that has it; imported when asked for, so that `import wnlib` costs nothing.
MODULES = {
    "backend": ["namespace"],
    "problems": ["spectrum", "streams", "truth"],
    "operators": ["Pauli", "data", "operator"],
    "methods": [
        "gradient_descent",
        "one_product_weight_normalization",
        "preconditioned_weight_normalization",
        "start_conjugate",
        "start_directed",
        "start_factored",
        "weight_normalization",
    ],
    "lockstep": ["Run", "run"],
    "recovery": ["Recovered", "recover"],
}
__all__ = sorted(name for names in MODULES.values() for name in names)


def __getattr__(name):
    for module, names in MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"wnlib.{module}"), name)
    raise AttributeError(f"module 'wnlib' has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
