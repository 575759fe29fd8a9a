"""Mounting and unmounting: /dev/fuse, mount(2) for root, fusermount3 for everybody else.

Owns nothing: `mount` returns the descriptor that a Session then serves. Closing the last copy of that
descriptor makes the kernel answer ENOTCONN to everybody who uses the mount.

libfuse is not needed; for ordinary users its setuid helper `fusermount3` is.
"""

import ctypes
import errno
import os
import socket
import stat
import subprocess
from collections.abc import Sequence
from typing import Final

_MOUNT_FLAGS: Final = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "sync": 16,
    "dirsync": 128,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
    # The kernel leaves the umask to the file system. Needed only where INIT cannot ask for that (DONT_MASK).
    "acl": 1 << 16,
}
_NO_FLAG: Final = frozenset({"rw", "suid", "dev", "exec", "async"})
_MNT_FORCE: Final = 1
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)


class MountError(Exception):
    """Mounting or unmounting failed; the message says why and what to do."""


def mount(
    mountpoint: str | os.PathLike[str],
    *,
    fsname: str,
    subtype: str,
    options: Sequence[str] = (),
    read_ahead_kb: int | None = None,
) -> int:
    """Mount on an existing directory; returns the descriptor to serve.

    `options` are mount options ("ro", "nosuid", "allow_other", "default_permissions", "max_read=N", …).
    `read_ahead_kb` raises the kernel's read-ahead above its 128 KiB; only root may, others keep the default.

    The mount is not usable before a Session serves the descriptor: any access to it waits until then.
    """
    path = os.path.realpath(mountpoint)
    if os.geteuid() == 0:
        fd = _mount_as_root(path, fsname, subtype, options)
        if read_ahead_kb is not None:
            try:
                set_read_ahead(path, read_ahead_kb)
            except BaseException:
                os.close(fd)
                unmount(path, lazy=True)
                raise
    else:
        fd = _mount_by_helper(path, fsname, subtype, options)
    return fd


def unmount(mountpoint: str | os.PathLike[str], lazy: bool = False, force: bool = False) -> None:
    """`lazy`: take the mount out of the tree now, even while files on it are open.

    `force`: whoever waits for a reply gets an error. For mounts whose process is dead: it may be that it cannot end, because
    one of its threads was telling the kernel to drop a page, and the kernel waits for that page's reader, who waits for the
    process. Only root can do that; for others it changes nothing.
    """
    # No realpath of the last component: it would ask a file system that may be dead.
    given = os.path.abspath(mountpoint)
    path = os.path.join(os.path.realpath(os.path.dirname(given)), os.path.basename(given))
    if os.geteuid() == 0:
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0) | (_MNT_FORCE if force else 0)
        if _libc.umount2(os.fsencode(path), flags) != 0:
            number = ctypes.get_errno()
            hint = "; close what is open on it, or unmount lazily" if number == errno.EBUSY else ""
            raise MountError(f"cannot unmount {path}: {os.strerror(number)}{hint}")
    else:
        command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", path]
        _run_helper(command, f"cannot unmount {path}")


def _mount_as_root(path: str, fsname: str, subtype: str, options: Sequence[str]) -> int:
    flags = 0
    data = []
    for option in options:
        if option in _MOUNT_FLAGS:
            flags |= _MOUNT_FLAGS[option]
        elif option not in _NO_FLAG:
            data.append(option)
    try:
        root_mode = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        raise MountError(f"cannot mount on {path}: {error.strerror}") from error
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(
            f"cannot open /dev/fuse: {error.strerror}; is the kernel module loaded (modprobe fuse)?"
        ) from error
    data = [f"fd={fd}", f"rootmode={root_mode:o}", "user_id=0", "group_id=0", *data]
    done = _libc.mount(
        os.fsencode(fsname),
        os.fsencode(path),
        f"fuse.{subtype}".encode(),
        ctypes.c_ulong(flags),
        ",".join(data).encode(),
    )
    if done != 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise MountError(f"cannot mount on {path} with options {','.join(options)}: {os.strerror(number)}")
    return fd


def _mount_by_helper(path: str, fsname: str, subtype: str, options: Sequence[str]) -> int:
    """fusermount3 mounts and sends the descriptor through the socket that _FUSE_COMMFD names."""
    escaped = fsname.replace("\\", "\\\\").replace(",", "\\,")
    all_options = ",".join([f"fsname={escaped}", f"subtype={subtype}", *options])
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            _run_helper(
                ["fusermount3", "-o", all_options, "--", path],
                f"cannot mount on {path}",
                comm_fd=theirs.fileno(),
            )
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if not fds:
        raise MountError(f"cannot mount on {path}: fusermount3 sent no descriptor")
    os.set_inheritable(fds[0], False)
    return fds[0]


def _run_helper(command: list[str], what_failed: str, comm_fd: int | None = None) -> None:
    environment = dict(os.environ)
    if comm_fd is not None:
        environment["_FUSE_COMMFD"] = str(comm_fd)
    try:
        done = subprocess.run(
            command,
            env=environment,
            pass_fds=() if comm_fd is None else (comm_fd,),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise MountError(f"{what_failed}: fusermount3 is missing; install the package fuse3, or run as root") from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip()
        raise MountError(f"{what_failed}: {reason or f'fusermount3 ended with {done.returncode}'}")


def set_read_ahead(path: str, read_ahead_kb: int) -> None:
    """Raise or lower the read-ahead of a mount; root only. No error if it is unmounted.

    The mount's number comes from mountinfo: stat would ask the file system, which nobody serves yet.
    """
    wanted = path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    wanted = wanted.replace("\n", "\\012")
    device = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if fields[4] == wanted:
                device = fields[2]  # the last one is on top
    if device is None:
        return  # unmounted meanwhile
    with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w", encoding="ascii") as setting:
        setting.write(str(read_ahead_kb))
