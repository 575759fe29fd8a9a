"""Makes the users of `ceph_users` with an administrator's key, and writes their keyrings.

Rule: keys go from the monitor into files that only their owner reads; never into arguments, output, errors or logs.
"""

import contextlib
import errno
import json
import os
import re
from typing import Any

import rados

from loligo_runtime.ceph_users import CephUser, CephUserError
from loligo_runtime.rados_objects import connect

ADMIN = "client.admin"
_KEY = re.compile(r"^\s*key\s*=\s*(\S+)\s*$", re.MULTILINE)


class Administration:
    """A connection with an administrator's key; use as a context manager."""

    def __init__(self, conf: str, name: str = ADMIN) -> None:
        """StoreMissingError, StoreUnreachableError: why there is none."""
        self._cluster = connect(conf, name)
        self._name = name

    def __enter__(self) -> "Administration":
        return self

    def __exit__(self, *exception: object) -> None:
        self._cluster.shutdown()

    def make(self, user: CephUser, folder: str) -> str:
        """Make the user, or find it made as it should be, and write its keyring into `folder`. -> the keyring's path"""
        caps = [part for pair in user.capabilities.items() for part in pair]
        code, answer, status = self._ask("auth get-or-create", entity=user.entity, caps=caps)
        if code:
            if "does not match" in status:
                status = f"it exists with other capabilities; see 'ceph auth get {user.entity}', and name another user"
            raise CephUserError(f"Ceph did not make {user.entity}: {status or os.strerror(code)}")
        path = os.path.join(folder, user.keyring_name)
        _write_secret(path, f"[{user.entity}]\n\tkey = {answer[0]['key']}\n")
        return path

    def capabilities(self, entity: str) -> dict[str, str] | None:
        """By service; None: there is no such user."""
        found = self._user(entity)
        return None if found is None else dict(found["caps"])

    def has_key(self, entity: str, path: str) -> bool | None:
        """Whether the keyring at `path` has the key that Ceph has of the user. None: there is no such file."""
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                written = _KEY.findall(file.read())
        except FileNotFoundError:
            return None
        found = self._user(entity)
        return found is not None and found["key"] in written

    def _user(self, entity: str) -> Any:
        code, answer, status = self._ask("auth get", entity=entity)
        if code == errno.ENOENT:
            return None
        if code in (errno.EACCES, errno.EPERM):
            raise CephUserError(
                f"{self._name} may not see the users of Ceph: name one who may, such as {ADMIN}, or leave them out"
            )
        if code:
            raise CephUserError(f"Ceph did not tell about {entity}: {status or os.strerror(code)}")
        return answer[0]

    def _ask(self, prefix: str, **arguments: object) -> tuple[int, Any, str]:
        """errno (0: done), answer, Ceph's text."""
        request = json.dumps({"prefix": prefix, "format": "json", **arguments})
        code, output, status = self._cluster.mon_command(request, b"")
        return -int(code), None if code else json.loads(output), status


def finds_keyring(conf: str, user: CephUser, path: str) -> bool:
    """Whether who connects as `user` with `conf` looks for its key in `path`."""
    with contextlib.suppress(rados.Error):
        cluster = rados.Rados(conffile=conf, name=user.entity)
        return os.path.abspath(path) in cluster.conf_get("keyring").replace(",", " ").split()
    return False


def _write_secret(path: str, text: str) -> None:
    partial = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)  # whoever made it may still have it open
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    os.replace(partial, path)
