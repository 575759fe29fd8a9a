"""The option string of a mount ("ro,noatime,transport=native"), as given to `loligo mount -o` or written in fstab.

Three kinds: ours, those that the kernel takes, and those that mount(8) keeps for itself but hands on.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

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
_PROTOCOL: Final = re.compile(r"7\.(\d{1,3})")


class OptionError(Exception):
    """An option is unknown or has a wrong value. The text says which are right."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """`kernel`: what mount(2) or fusermount3 gets. `minor_max`: the newest protocol 7.N to speak; None: no limit."""

    kernel: tuple[str, ...]
    transport: str
    minor_max: int | None
    update_atime: bool


def parse_options(given: Iterable[str], *, allow_other: bool, sloppy: bool = False) -> MountOptions:
    """The options in `given`, each a string with commas. `allow_other` is the default of that option; `sloppy`
    ignores options that nobody knows.
    """
    flags: dict[tuple[str, str], str] = {}
    transport = TRANSPORTS[0]
    minor_max: int | None = None
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
        elif option == "remount":
            raise OptionError(
                "remount: a Loligo mount cannot be changed; unmount it, and mount it with the new options"
            )
        elif not (option in _SILENT or option.startswith(_SILENT_PREFIXES) or sloppy):
            raise OptionError(
                f"unknown option {option!r}; known: ro, nosuid, nodev, noexec, sync, dirsync, noatime, nodiratime,"
                " allow_other, noallow_other, transport=, protocol="
            )
    if minor_max is not None and transport != "native":
        raise OptionError("protocol= needs transport=native: libfuse negotiates by itself")
    kernel = ["default_permissions", *(flag for flag in flags.values() if flag not in _DEFAULTS)]
    if allow_other:
        kernel.append("allow_other")
    update_atime = not {"ro", "noatime"} & set(kernel)
    return MountOptions(tuple(kernel), transport, minor_max, update_atime)


def _minor(value: str) -> int:
    matched = _PROTOCOL.fullmatch(value)
    if matched is None or int(matched[1]) < 31:
        raise OptionError(f"protocol={value}: say 7.31 or newer, for example protocol=7.36")
    return int(matched[1])
