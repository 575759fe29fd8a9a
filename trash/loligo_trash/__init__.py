"""Trash: what is removed is kept for a while, with what was removed along with it. Pure: no I/O, no clock.

policy   how long what is kept, said by directories in extended attributes
batch    what was removed together: its record, and when a removal belongs to it
rate     how fast a batch goes for good, if somebody limits that
places   where something was before it was removed
"""
