"""osdtune: observes a Ceph cluster, proposes how to tune it for small synchronous writes on disks, and says why.

`core` is pure: facts, rules, plans, bursts, opinions; actions and their journal. `shell` asks Ceph and the host, changes
them, and prints.
"""
