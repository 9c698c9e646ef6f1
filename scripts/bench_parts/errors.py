"""How the benchmark ends early: one line for the person who started it."""


class BenchError(Exception):
    """Something the benchmark needs is not as it must be; `str()` says what, and what to do."""
