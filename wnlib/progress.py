"""Progress bars: on a terminal only, also from within a notebook that the runner executes there."""

import os
import sys

from tqdm import tqdm


def bar(total, label, unit):
    """Return a tqdm bar with rate and remaining time.

    It is drawn on the terminal that the runner names (WNLIB_TERMINAL), or on this process's own; otherwise nothing
    is, as in executed notebooks and logs.
    """
    return tqdm(
        total=total, desc=label, unit=unit, unit_scale=True, leave=False, file=_stream(), disable=None, mininterval=0.5
    )


def note(line):
    """Show a line on that terminal, above the bars; nowhere else."""
    stream = _stream()
    if stream.isatty():
        tqdm.write(line, file=stream)


def _stream():
    terminal = os.environ.get("WNLIB_TERMINAL")
    return os.fdopen(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), "w") if terminal else sys.stderr
