"""`scripts/bench read`: zarrfuse beside its peers and the local disk, in one run on the same data.

Imports inside are relative, so that the tests reach the pure modules as `scripts.bench_parts`.
"""
