"""What both ends of a wire, or two versions of a disk, must agree on.

Pure: no I/O, no clock, no randomness, no threads (checked by import contracts).

- ``ids``         inode numbers, shards, sessions, sequences
- ``attributes``  the inode record: in memory and on disk
- ``acl``         POSIX access control lists in the kernel's xattr encoding
- ``striping``    byte ranges of a file to byte ranges of its objects
"""
