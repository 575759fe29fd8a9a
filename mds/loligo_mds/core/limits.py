"""Every bound of the metadata, with its unit in the name."""

NAME_MAX_BYTES = 255
SYMLINK_MAX_BYTES = 4095
XATTR_NAME_MAX_BYTES = 255
XATTR_VALUE_MAX_BYTES = 65536
XATTR_LIST_MAX_BYTES = 65536
LINK_MAX = 0xFFFF_FFFF - 1
#: One more object index than a removal should ever have to walk: 16 TiB is 4 Mi objects of 4 MiB.
FILE_MAX_BYTES = 1 << 44
INLINE_MAX_BYTES = 65536
#: Longer content is not sent to who opens a file: he may have its pages.
FILLED_IN_MAX_BYTES = 8192
#: Inodes kept decoded. Each costs about half a KiB.
INODE_CACHE_MAX = 8192
#: Entries of one listing page.
#: Clients rely on it: a page shorter than asked for, up to this, is the last.
LISTING_PAGE_MAX = 1024
#: Replies kept for a session that does not acknowledge them.
UNACKNOWLEDGED_REPLIES_MAX = 65536
#: Replies that one step forgets, once they are acknowledged.
FORGOTTEN_REPLIES_MAX = 1024
#: Inodes of one `Settle`.
SETTLE_MAX = 4096
#: A step that clears up after a session, and has made so many writes, leaves the rest to the next one. Its record stays
#: below the journal's limit (1 MiB, 65,535 writes): a row that goes takes at most 270 bytes of it, and the last inode that
#: it begins with has at most some 8,200 xattrs, 180 KiB, because their names fit XATTR_LIST_MAX_BYTES.
STEP_WRITES_MAX = 2000
#: What one `FillIn` puts back.
FILLED_IN_MAX = 256
#: Files that a client may have open: each costs some 600 bytes.
OPEN_FILES_MAX = 1 << 17
#: Locks that a client may have: each costs some 200 bytes.
LOCKS_MAX = 1 << 16
#: Of all clients in one file, of fcntl and of flock; and how many may wait there: all are looked at when one is given up.
LOCKS_IN_FILE_MAX = 1024
LOCK_WAITS_IN_FILE_MAX = 256
#: Leases that a session may have: each costs some 700 bytes. Clients keep below it.
LEASES_MAX = 1 << 16
#: Inode numbers that are reserved for a session at a time.
RESERVED_INODES_MAX = 1 << 14
#: Answers to recalls that a client may send when its window is full.
LEASES_RETURNED_MAX = 64
#: Files that one of them says to be open.
OPEN_RETURNED_MAX = 4096
#: Inodes whose attributes are excepted from one lease; beyond that it is recalled as a whole.
EXCEPTED_MAX = 1024
#: Leases that are remembered as recalled lately.
BUSY_LEASES_MAX = 1 << 14
#: Inodes that are remembered as given to a session whose root is below the volume's.
GRANTED_MAX = 65536
#: How far below its root such a session gets: every request of it walks up that far.
LIMITED_DEPTH_MAX = 2048
