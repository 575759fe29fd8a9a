"""Pure: facts in; plans, bursts and opinions out. No I/O, no clock: the same facts give the same answer."""
