"""What an operator wishes for: device classes, copies, how they are kept apart, names."""

import re
from dataclasses import dataclass

HOST, OSD = "host", "osd"
DATA, META, JOURNAL = "data", "meta", "journal"

_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # what Ceph takes for pools, rules and profiles alike
_CODING = re.compile(r"(\d+)\+(\d+)")


class LayoutError(Exception):
    """No layout can be made of this wish on this cluster. The text says what would fit."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """`size` whole copies."""

    size: int

    @property
    def min_size(self) -> int:
        return self.size - self.size // 2

    def __str__(self) -> str:
        return f"{self.size} copies"


@dataclass(frozen=True, slots=True)
class Erasure:
    """Each object is cut into `k` pieces, with `m` more computed from them; any `k` of them are enough."""

    k: int
    m: int

    @property
    def size(self) -> int:
        return self.k + self.m

    @property
    def min_size(self) -> int:
        return self.k + min(1, self.m - 1)

    def __str__(self) -> str:
        return f"EC {self.k}+{self.m}"


Copies = Replicas | Erasure


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """`ssd`: class of the pools for metadata and journal; None: neither is wanted. `volumes`: namespaces of the data pool."""

    hdd: str
    ssd: str | None = None
    prefix: str = "loligo"
    replicas: Replicas = Replicas(3)
    erasure: Erasure | None = None
    domain: str = HOST
    root: str = "default"
    volumes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """LayoutError: Ceph would not take it, or it would keep no second copy."""
        if not _NAME.fullmatch(self.prefix):
            raise LayoutError(f"{self.prefix!r} cannot begin the name of a pool: use letters, digits, '.', '_', '-'")
        if self.replicas.size < 2:
            raise LayoutError("with one copy each OSD that fails takes data with it: wish for 2 or, better, 3 replicas")
        if self.erasure is not None and (self.erasure.k < 2 or self.erasure.m < 1):
            raise LayoutError(f"{self.erasure} cannot be: k is 2 or more, m is 1 or more, such as 4+2")
        for volume in self.volumes:
            if not volume or "/" in volume:
                raise LayoutError(f"{volume!r} cannot be a namespace of a volume: it has a '/', or nothing at all")

    @property
    def data_copies(self) -> Copies:
        return self.erasure or self.replicas


def plural(domain: str) -> str:
    return "hosts" if domain == HOST else "OSDs"


def parse_coding(text: str) -> Erasure:
    """From "4+2". ValueError: it is nothing like that."""
    matched = _CODING.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is no erasure coding: write K+M, such as 4+2")
    return Erasure(int(matched[1]), int(matched[2]))
