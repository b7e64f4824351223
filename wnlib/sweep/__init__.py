"""Sweeps of independent cells: what one is and its file (`cells`), who computes (`executors`), the loop (`work`)."""

from wnlib.sweep.work import run
