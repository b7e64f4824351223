"""wnlib: weight normalization for overparameterized matrix sensing.

The modules, in the order a notebook uses them:

backend    which array library computes: NumPy or CuPy
problems   ground truths and their spectra; random streams by role
sensing    measurement operators M, scaled so that E[M*M] is the identity on Sym(m)
structured operators without a matrix: cosine transform, rank one, single entries; rectangles as blocks
stiefel    the Stiefel manifold: random points, tangent projection, retractions
methods    one step of each method, written like the paper's algorithm
peers      the competitors that notebook 13 races, in the same form
lockstep   drives many runs over one operator in one pass and records traces
theory     the laws drawn over the curves
fits       rates, power laws and plateaus of recorded traces
claims     checks a claim in code; collects the verdicts
figures    style, saving, provenance
recovery   the cells of the recovery map over measurements and columns
sweep      independent cells: computed once, shared out; cells: what one is and its file; executors: who computes them
run        the strict notebook runner behind `make figures`; jobs: what it can be asked; kernel: its child process
verify     regenerated results against the references, behind `make verify`
gpu        is CuPy right on this GPU, and how fast: behind `make gpu-check`
gallery    the executed notebooks as a web site, behind `make gallery`; its templates in site/

linalg, validate and progress hold the small shared tools; fused the one-pass products behind the large operators.
"""
