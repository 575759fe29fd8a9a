"""How long what is removed from a path is kept, and which directory says so (`loligo_trash.policy`)."""

import errno
import os
from dataclasses import dataclass
from typing import Final

from loligo.trash_folder import Path, TrashError, absolute, shown, trash_of
from loligo_trash.policy import LIMIT_NAME, MINIMUM_AGE_NAME, RETENTION_NAME, PolicyInvalid, check_value

_DEFAULTS: Final = {RETENTION_NAME: "7d", MINIMUM_AGE_NAME: "5s", LIMIT_NAME: "0"}


@dataclass(frozen=True, slots=True)
class Said:
    """`where`: by which directory, or file; None: nobody says anything, so the default holds."""

    name: bytes
    value: str
    where: bytes | None


def policy_of(path: Path) -> list[Said]:
    """TrashError, OSError"""
    folder, _ = trash_of(path)
    full = absolute(path)
    os.lstat(full)
    ways = [full]
    while ways[-1] != folder.root:
        ways.append(os.path.dirname(ways[-1]))
    return [_said(name, ways if name != LIMIT_NAME else ways[-1:], folder.mount.root == "/") for name in _DEFAULTS]


def set_policy(path: Path, name: bytes, value: str | None) -> None:
    """`value`: None: what is said above holds. TrashError, OSError."""
    folder, below = trash_of(path)
    full = absolute(path)
    if name == LIMIT_NAME and below:
        raise TrashError(f"the limit is the volume's: set it for {folder.mount.directory}")
    try:
        if value is None:
            os.removexattr(full, os.fsdecode(name), follow_symlinks=False)
        else:
            said = value.strip().encode()
            check_value(name, said)
            os.setxattr(full, os.fsdecode(name), said, follow_symlinks=False)
    except PolicyInvalid as error:
        raise TrashError(str(error)) from None
    except OSError as error:
        if error.errno == errno.ENODATA:
            return
        if error.errno in (errno.EPERM, errno.EACCES):
            whose = "root's" if name == LIMIT_NAME else "its owner's, or root's,"
            raise TrashError(f"what is kept of {shown(full)} is {whose} to say: ask them") from None
        raise OSError(error.errno, error.strerror, full) from None


def _said(name: bytes, ways: list[bytes], is_whole: bool) -> Said:
    for at in ways:
        try:
            said = os.getxattr(at, os.fsdecode(name), follow_symlinks=False)
            return Said(name, said.decode(errors="replace").strip(), at)
        except OSError as error:
            if error.errno == errno.EACCES:
                raise TrashError(f"{shown(at)} may say it, and you may not read that: ask its owner, or root") from None
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
    if not is_whole:
        raise TrashError(f"{shown(ways[-1])} is all that is mounted here of the volume; what is above it may say more")
    return Said(name, _DEFAULTS[name], None)
