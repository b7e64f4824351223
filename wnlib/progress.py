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
        total=total, desc=label, unit=unit, unit_scale=True, leave=False, file=stream(), disable=None, mininterval=0.5
    )


def stream():
    """Return that terminal, to write on; it never fails: what cannot be shown is not."""
    try:
        terminal = os.environ.get("WNLIB_TERMINAL")
        return _Patient(
            open(os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), "w") if terminal else sys.stderr
        )
    except OSError:  # it has gone, or is another user's
        return _Patient(None)


class _Patient:
    """A stream whose other end may go, or refuse, at any time: what it cannot do gives None."""

    encoding = "utf-8"

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        def call(*arguments):
            try:
                return getattr(self._stream, name)(*arguments)
            except (OSError, ValueError, AttributeError):
                return None

        return call
