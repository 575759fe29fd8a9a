"""Where processes of this machine leave notes and sockets for `loligo status` and others.

    /run/loligo                                             of root
    /run/user/UID/loligo or, without it, /tmp/loligo-UID    of others

What is in there belongs to processes that run now; nothing of it outlives the machine's next start.
"""

import os
from pathlib import Path


def state_folder(uid: int) -> Path:
    """The folder of `uid`'s processes; it may not be there yet."""
    if uid == 0:
        return Path("/run/loligo")
    of_user = Path(f"/run/user/{uid}")
    return of_user / "loligo" if of_user.is_dir() else Path(f"/tmp/loligo-{uid}")


def socket_name(volume_uuid: str) -> str:
    """Of the metadata server of this volume."""
    return f"serve-{volume_uuid[:8]}.sock"


def make_state_folder() -> Path:
    """Ours, made if need be. PermissionError if somebody else was there first."""
    uid = os.geteuid()
    folder = state_folder(uid)
    folder.mkdir(mode=0o700 if uid else 0o755, parents=True, exist_ok=True)
    if folder.lstat().st_uid != uid:
        raise PermissionError(f"{folder} belongs to somebody else: have it removed")
    return folder
