"""The client: the file system as the kernel sees it, and the path of its data.

- ``core``   pure: what is buffered of a file
- ``shell``  the file system by inode, the data path, the transports (native and pyfuse3), mounting
"""
