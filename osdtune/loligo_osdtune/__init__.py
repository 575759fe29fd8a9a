"""osdtune: observes a Ceph cluster, proposes how to tune it for small synchronous writes on disks, and says why; does it, takes
it back, and measures what it was worth.

`core` is pure: facts, rules, plans, bursts, opinions; actions and their journal; figures. `shell` asks Ceph and the host,
changes them, and prints.
"""
