"""Small file systems to start from. Run one with ``python -m loligo_fuse.examples.hello DIRECTORY``."""
