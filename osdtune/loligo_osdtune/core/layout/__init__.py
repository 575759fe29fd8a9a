"""Which pools, CRUSH rules and Ceph users a Loligo volume wants; what of that a cluster has, and what is missing. Pure."""
