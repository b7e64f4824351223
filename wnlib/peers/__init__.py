"""The competitors that notebook *peers* races: published methods for the same problem, one step each as in methods.

Steps, states and their `estimate` are what they are there; the starts are made from those of methods. To add one: a
function, and its state if it needs one, in the file of its family, and its name here.
"""

from wnlib.peers.factored import (
    Deflated,
    Extrapolated,
    Paired,
    approximate_gauss_newton,
    levenberg_marquardt,
    momentum_gradient_descent,
    polyak_gradient_descent,
    preconditioned_gradient_descent,
    recursive_weight_normalization,
    scaled_gradient_descent,
)
from wnlib.peers.projected import (
    Passed,
    Thresholded,
    approximate_message_passing,
    conjugate_gradient_iterative_hard_thresholding,
    gauss_newton,
    iterative_hard_thresholding,
    normalized_iterative_hard_thresholding,
)
