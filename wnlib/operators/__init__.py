"""Measurement operators M on Sym(m), one family a file; `protocol` says what an operator is.

To add one: a file with its class and the function of (m, n, rng, xp) that draws it, and a line in OPERATORS.
"""

import array_api_compat.numpy

from wnlib import validate
from wnlib.operators.cosine import Cosine, cosine
from wnlib.operators.dense import Dense, gaussian, rademacher, triangular
from wnlib.operators.entries import Entries, entries
from wnlib.operators.lazy import Lazy, lazy
from wnlib.operators.measurements import data
from wnlib.operators.pauli import Pauli, pauli, shots
from wnlib.operators.population import Population, population
from wnlib.operators.rank_one import RankOne, rank_one

OPERATORS = {
    "population": population,
    "dense": gaussian,
    "triangular": triangular,
    "lazy": lazy,
    "rademacher": rademacher,
    "rank-one": rank_one,
    "cosine": cosine,
    "entries": entries,
    "pauli": pauli,
}


def operator(kind, m, n, rng, xp=array_api_compat.numpy):
    """Return the operator named `kind`, one of OPERATORS, with n measurements of symmetric m×m matrices.

    `rng` is a generator, or a list of them for a stack of operators. Raises ValueError for an unknown kind, m < 1,
    n < 1, and what the operator itself refuses; MemoryError when it will not fit.
    """
    make = validate.choice("operator", kind, OPERATORS)
    validate.integer("n", n, 1)
    return make(m, n, rng, xp)
