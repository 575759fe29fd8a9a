"""Pure: facts in; plans, actions, bursts and opinions out. No I/O, no clock: the same facts give the same answer."""
