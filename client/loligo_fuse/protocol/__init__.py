"""The kernel's FUSE protocol as pure functions: no I/O, no clock, no threads (checked by import contracts).

- ``constants``    opcodes and flag bits
- ``values``       what a file system sees: Context, SetAttributes, Opened, StatFs, Attributes
- ``negotiation``  INIT: what the kernel offers, what we take
- ``decode``       bodies of requests to values
- ``encode``       results to replies; notifications

All integers are in the machine's byte order, all structs padded to 8 bytes, so the struct formats start
with ``=`` (native order, no alignment of their own). Sizes are checked against the kernel's header in
``tests/fuse/test_layout.py``.
"""
