"""The metadata server: a pure core, the store that makes it durable, and a thin shell that runs both.

- ``core``   decides: a shard as a state machine over tables, no I/O, no clock
- ``store``  keeps: the tables on LMDB, the journal, recovery
- ``shell``  does: feeds requests to the core and runs its effects in order
"""
