"""Progress bars: on a terminal only, also from within a notebook that the runner executes there."""

import os
import sys

from tqdm import tqdm


def bar(total, label, unit):
    """Return a tqdm bar with rate and remaining time.

    It is drawn on the terminal that the runner names (WNLIB_TERMINAL), or on this process's own; otherwise nothing
    is, as in executed notebooks and logs.
    """
    terminal = os.environ.get("WNLIB_TERMINAL")
    stream = os.fdopen(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), "w") if terminal else sys.stderr
    return tqdm(
        total=total, desc=label, unit=unit, unit_scale=True, leave=False, file=stream, disable=None, mininterval=0.5
    )
