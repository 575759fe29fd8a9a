"""Ports to the outside world and their adapters: what the pure packages must not touch.

- ``object_store``   the port to file data: a flat store of objects
- ``local_objects``  its adapter for a folder on this machine
- ``rados_objects``  its adapter for a RADOS pool
- ``object_url``     from a URL to one of the two
"""
