"""A real Swift, and if wanted a real Keystone, on 127.0.0.1 for development, tests and the demo.

`cli` and what it imports run on any Python with the standard library alone. `swift_server` and
`keystone_server` run inside the virtual environments that `venvs` makes, one process each.
"""
