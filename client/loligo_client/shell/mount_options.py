"""The option string of a mount ("ro,noatime,transport=native"), as given to `loligo mount -o` or written in fstab.

Three kinds: ours, those that the kernel takes, and those that mount(8) keeps for itself but hands on. Some of ours are for
mounts through a metadata server only.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from loligo_runtime.sizes import parse_size

TRANSPORTS: Final = ("native", "pyfuse3")

#: Kernel flags, later ones overriding earlier ones of the same group.
_GROUPS: Final = (
    ("rw", "ro"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("async", "sync"),
    ("nodirsync", "dirsync"),
    ("relatime", "noatime"),
    ("diratime", "nodiratime"),
)
_OPPOSITES: Final = {name: group for group in _GROUPS for name in group}
#: What the kernel does anyway: never passed on.
_DEFAULTS: Final = frozenset(group[0] for group in _GROUPS)
_SILENT: Final = frozenset(
    {
        "defaults",
        "auto",
        "noauto",
        "user",
        "users",
        "owner",
        "group",
        "nouser",
        "nofail",
        "_netdev",
        "default_permissions",
    }
)
_SILENT_PREFIXES: Final = ("x-", "X-", "comment=")
#: Options of mounts through a server, and the fields of ServerOptions that they set.
_OF_SERVER: Final = {
    "timeout": "timeout_s",
    "ca": "ca",
    "cert": "cert",
    "key": "key",
    "ceph_conf": "ceph_conf",
    "ceph_name": "ceph_name",
    "data": "data_url",
    "data_cache": "data_cache_bytes",
    "data_cache_dir": "data_cache_dir",
}
_FILES: Final = frozenset({"ca", "cert", "key", "ceph_conf", "data_cache_dir"})
_SECONDS_MAX: Final = {"timeout": 86400.0}
_PROTOCOL: Final = re.compile(r"7\.(\d{1,3})")


class OptionError(Exception):
    """An option is unknown or has a wrong value. The text says which are right."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Of a mount through a metadata server. Empty texts: not given. `given`: the names of the options that were."""

    timeout_s: float = 60.0
    ca: str = ""
    cert: str = ""
    key: str = ""
    ceph_conf: str = ""
    ceph_name: str = ""
    data_url: str = ""
    data_cache_bytes: int = 1 << 30
    data_cache_dir: str = ""
    insecure_network: bool = False
    given: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountOptions:
    """`kernel`: what mount(2) or fusermount3 gets. `minor_max`: the newest protocol 7.N to speak; None: no limit."""

    kernel: tuple[str, ...]
    transport: str
    minor_max: int | None
    update_atime: bool
    server: ServerOptions = ServerOptions()

    @property
    def read_only(self) -> bool:
        return "ro" in self.kernel


def parse_options(given: Iterable[str], *, allow_other: bool, sloppy: bool = False) -> MountOptions:
    """The options in `given`, each a string with commas. `allow_other` is the default of that option; `sloppy`
    ignores options that nobody knows.
    """
    flags: dict[tuple[str, str], str] = {}
    transport = TRANSPORTS[0]
    minor_max: int | None = None
    server = ServerOptions()
    for option in (option for text in given for option in text.split(",") if option):
        name, equals, value = option.partition("=")
        if option in _OPPOSITES:
            flags[_OPPOSITES[option]] = option
        elif option in ("allow_other", "noallow_other"):
            allow_other = option == "allow_other"
        elif name == "transport" and equals:
            if value not in TRANSPORTS:
                raise OptionError(f"transport={value}: there are {' and '.join(TRANSPORTS)}")
            transport = value
        elif name == "protocol" and equals:
            minor_max = _minor(value)
        elif name in _OF_SERVER and equals:
            server = replace(server, given=(*server.given, name), **{_OF_SERVER[name]: _server_value(name, value)})
        elif option == "insecure_network":
            server = replace(server, given=(*server.given, name), insecure_network=True)
        elif option == "remount":
            raise OptionError(
                "remount: a Loligo mount cannot be changed; unmount it, and mount it with the new options"
            )
        elif not (option in _SILENT or option.startswith(_SILENT_PREFIXES) or sloppy):
            raise OptionError(
                f"unknown option {option!r}; known: ro, nosuid, nodev, noexec, sync, dirsync, noatime, nodiratime,"
                " allow_other, noallow_other, transport=, protocol=; with a metadata server also timeout=, ca=,"
                " cert=, key=, insecure_network, ceph_conf=, ceph_name=, data=, data_cache=, data_cache_dir="
            )
    if minor_max is not None and transport != "native":
        raise OptionError("protocol= needs transport=native: libfuse negotiates by itself")
    _check_server_options(server)
    kernel = ["default_permissions", *(flag for flag in flags.values() if flag not in _DEFAULTS)]
    if allow_other:
        kernel.append("allow_other")
    update_atime = not {"ro", "noatime"} & set(kernel)
    return MountOptions(tuple(kernel), transport, minor_max, update_atime, server)


def _server_value(name: str, value: str) -> Any:
    if name in _SECONDS_MAX:
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= _SECONDS_MAX[name]:
            raise OptionError(f"{name}={value}: give seconds, for example {name}=1 or {name}=0.5")
        return seconds
    if name == "data_cache":
        try:
            return parse_size(value)
        except ValueError as error:
            raise OptionError(f"data_cache={value}: {error}; 0 turns the cache off") from None
    if name in _FILES and not os.path.isabs(value):
        raise OptionError(f"{name}={value}: give an absolute path")
    if name == "ceph_name" and not re.fullmatch(r"client\..+", value):
        raise OptionError(f"ceph_name={value}: give a name of the form client.NAME")
    if not value:
        raise OptionError(f"{name}= is empty")
    return value


def _check_server_options(server: ServerOptions) -> None:
    if bool(server.cert) != bool(server.key):
        raise OptionError("cert= and key= belong together: give both, or neither")
    if server.cert and not server.ca:
        raise OptionError("cert= needs ca=: the authority that signed the server's certificate")
    if server.data_url and (server.ceph_conf or server.ceph_name):
        raise OptionError(
            "data= is the whole URL of the data: put conf= and name= into it instead of ceph_conf=, ceph_name="
        )


def check_files(server: ServerOptions) -> None:
    """OptionError if a file that was named cannot be read: later nobody would say which option that was."""
    for name in _FILES.intersection(server.given):
        path = getattr(server, _OF_SERVER[name])
        try:
            if name == "data_cache_dir":
                os.listdir(path)
            else:
                with open(path, "rb"):
                    pass
        except OSError as error:
            raise OptionError(f"{name}={path}: {error.strerror}; correct the path, or make what it names") from None


def _minor(value: str) -> int:
    matched = _PROTOCOL.fullmatch(value)
    if matched is None or int(matched[1]) < 31:
        raise OptionError(f"protocol={value}: say 7.31 or newer, for example protocol=7.36")
    return int(matched[1])
