"""Real surroundings for tests and benchmarks, on this machine only.

- ``ceph``   a small Ceph cluster on the loopback interface
"""
