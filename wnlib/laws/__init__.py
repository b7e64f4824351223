"""The laws drawn over the curves, in groups: population, its exact reduction, finite n and noise, gradient descent."""

from wnlib.laws.descent import gd_small_start, gd_tail
from wnlib.laws.population import (
    alignment,
    contraction,
    crossing_time,
    escape_law,
    escape_times,
    levels,
    theorem,
)
from wnlib.laws.reduction import (
    Reduced,
    burn_in,
    burn_in_bound,
    random_alignment,
    reduced_any_error,
    reduced_any_step,
    reduced_error,
    reduced_step,
    tangent_bound,
    tangents_step,
)
from wnlib.laws.sampled import (
    degrees_of_freedom,
    local_rate,
    magnitude_threshold,
    noise_floor,
    reached_dimensions,
    sampled_decay,
)
