"""Benchmarks that people run by hand or `make bench` runs; nothing here is installed.

`compare` runs the same work on several mounted file systems side by side, `upcall` measures what
one call of the kernel costs us. `tests/bench` holds the tests of their arithmetic.
"""
