"""Pure: no I/O, no clock, no threads."""
