"""What an enemy sends: frames that make no sense, frames that make too much of it, and all between.

Seeded. `Enemy` makes frames for one kind of session; it learns from the answers which inodes there are, so that much of what it
asks is carried out. See `test_hostile` for who sends them, and what must hold.
"""

from collections import deque
from collections.abc import Callable, Collection
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from loligo_mds.core.codec import decode_request
from loligo_mds.core.requests import CHANGING
from loligo_trash.batch import Word
from loligo_wire.attributes import RECORD_SIZE
from loligo_wire.ids import ROOT_INO
from loligo_wire.v1 import loligo_pb2 as pb

#: Larger than any inode number of these tests, and than any size that is worth removing block by block afterwards.
BEYOND = 1 << 40
_SIZE_MAX = 1 << 30
_FILE_MAX = 1 << 44

KINDS = [field.name for field in pb.Request.DESCRIPTOR.oneofs_by_name["kind"].fields]
_INODES = ("ino", "parent", "new_parent", "directory")
_NUMBERS = (0, 1, 2, 3, 127, 128, 0o777, 0o4755, 0o100644, 0o170000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_LARGE = (1 << 32, (1 << 44) + 1, 1 << 48, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1)
_MODES = (0o100644, 0o100600, 0o40755, 0o120777, 0o10644, 0o140644, 0o20600, 0o60600)
_XATTRS = (
    b"user.a",
    b"user.b",
    b"trusted.t",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"security.capability",
    b"loligo.trash.retention",
    b"loligo.trash.minimum_age",
    b"loligo.trash.limit",
)
_TIMES = (b"0", b"0s", b"1s", b"7d", b"999999999w", b"-1d", b"5")
_BAD_NAMES = (
    b"",
    b".",
    b"..",
    b"/",
    b"a/b",
    b"../..",
    b"a\0b",
    b"\xff\xfe",
    b"x" * 255,
    b"x" * 256,
    b"n" * 65536,
    b"%s%n",
)


class Enemy:
    """`inos` are those it knows, and `foreign` those it should never get at. `sequence` is of its session."""

    def __init__(
        self, random: Random, inos: Collection[int], foreign: Collection[int], names: Collection[bytes]
    ) -> None:
        self._random = random
        self._inos = deque(inos, maxlen=400)
        self._foreign = list(foreign)
        self._names = (*names, *(b"f%d" % number for number in range(60)))
        self.id = 0
        self.sequence = 0

    def learn(self, ino: int) -> None:
        if ino not in self._inos:
            self._inos.append(ino)

    def rewind(self) -> None:
        """A new stream."""
        self.id = 0

    # -- values ---------------------------------------------------------------------------------------------------------

    def ino(self) -> int:
        random = self._random
        draw = random.random()
        if draw < 0.85:
            return random.choice(self._inos)
        if draw < 0.91 and self._foreign:
            return random.choice(self._foreign)
        if draw < 0.94:
            return random.choice(self._inos) + random.choice((1, 2, 1 << 48, 1 << 63))
        return random.choice((0, ROOT_INO, 2, *_LARGE, random.getrandbits(64)))

    def _name(self) -> bytes:
        random = self._random
        return random.choice(self._names) if random.random() < 0.93 else random.choice(_BAD_NAMES)

    def _number(self, bits: int, signed: bool) -> int:
        random = self._random
        value = random.choice((*_NUMBERS, *_LARGE)) if random.random() < 0.7 else random.getrandbits(bits)
        value &= (1 << bits) - 1
        return value - (1 << bits) if signed and value >> (bits - 1) else value

    def _bytes(self) -> bytes:
        random = self._random
        return random.randbytes(
            random.choice((0, 1, 4, 28, 44, 300, 4096) if random.random() < 0.99 else (65536, 70_000))
        )

    def _value(self, kind: str, field: Any) -> Any:
        random = self._random
        name = field.name
        if name in _INODES:
            return self.ino()
        if name == "batch" and random.random() < 0.9:
            return random.randrange(1, 2000)
        if name == "word" and random.random() < 0.9:
            return random.randrange(max(Word) + 2)
        if name in ("name", "new_name"):
            return random.choice(_XATTRS) if "xattr" in kind and random.random() < 0.8 else self._name()
        if name == "value" and random.random() < 0.4:
            return random.choice(_TIMES)
        if name == "mode" and random.random() < 0.9:
            return random.choices(_MODES, (8, 2, 4, 2, 1, 1, 1, 1))[0]
        if name == "became" and random.random() < 0.8:
            return random.randbytes(RECORD_SIZE)
        if name in ("size", "end", "unsettled_end") and random.random() < 0.7:
            return random.choice((0, 1, 4096, 65536, 65537, 1 << 22, _SIZE_MAX))
        if name == "flags" and random.random() < 0.8:
            return random.choice((0, 0, 1, 2))
        if name == "count" and kind == "close" and random.random() < 0.8:
            return 1
        if field.type == FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
            return self._number(32 if field.type == FieldDescriptor.TYPE_UINT32 else 64, False)
        if field.type == FieldDescriptor.TYPE_SINT64:
            return self._number(64, True)
        return self._bytes()

    # -- frames ---------------------------------------------------------------------------------------------------------

    def request(self, frame: pb.ClientFrame, kind: str = "") -> None:
        """One more, of any kind, with an id and a sequence as they should be."""
        random = self._random
        kind = kind or random.choice(KINDS)
        self.id = min(self.id, (1 << 64) - 2) + 1
        message = frame.requests.add(id=self.id)
        body = getattr(message, kind)
        body.SetInParent()
        for field in body.DESCRIPTOR.fields:
            if field.is_repeated:
                getattr(body, field.name).extend(self.ino() for _ in range(random.choice((0, 1, 3, 20))))
            elif not (field.has_presence and random.random() < 0.5):
                setattr(body, field.name, self._value(kind, field))
        if kind == "publish" and random.random() < 0.7:
            body.size = len(body.inline)
        self.sequence += 1
        message.sequence = self.sequence

    def frame(self) -> pb.ClientFrame:
        """Valid in form; its values are what they are."""
        random = self._random
        frame = pb.ClientFrame()
        for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
            self.request(frame)
        draw = random.random()
        if draw < 0.03:
            frame.acknowledged = random.choice((1, self.sequence, self.sequence + 7, *_LARGE))
        elif draw < 0.06:  # once more, or long ago
            frame.requests[-1].sequence = max(1, self.sequence - random.choice((1, 2, 50)))
        elif draw < 0.07:
            self.sequence += random.choice((10, 1 << 20, 1 << 40))
            frame.requests[-1].sequence = self.sequence
        elif draw < 0.08:
            frame.requests[-1].id = self.id = min(self.id + (1 << random.randrange(40)), (1 << 64) - 1)
        elif draw < 0.3:
            frame.acknowledged = self.sequence - 1
        return frame

    def mutated(self) -> bytes:
        """A valid frame to which something has happened."""
        random = self._random
        data = bytearray(self.frame().SerializeToString())
        for _ in range(random.choice((1, 1, 2, 5))):
            at = random.randrange(len(data) + 1)
            match random.randrange(7):
                case 0 | 1 if at < len(data):
                    data[at] ^= 1 << random.randrange(8)
                case 2 if at < len(data):
                    data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 3:
                    del data[at:]
                case 4:
                    end = min(len(data), at + random.randrange(20))
                    data[at:at] = data[at:end]
                case 5:
                    data[at:at] = random.randbytes(random.randrange(1, 9))
                case 6:
                    data += self.frame().SerializeToString()
        return bytes(data)

    def noise(self) -> bytes:
        return self._random.randbytes(self._random.choice((1, 3, 17, 100, 1000)))

    def holds(self) -> pb.ClientFrame:
        """What it says that it has open: lies."""
        random = self._random
        frame = pb.ClientFrame(holds_first=random.random() < 0.9, holds_complete=random.random() < 0.9)
        for _ in range(random.choice((0, 1, 5, 40))):
            frame.holds.add(
                ino=self.ino(),
                count=random.choice((0, 1, 1, 2, (1 << 32) - 1)),
                writes=random.random() < 0.6,
                contended=random.random() < 0.3,
                claimed=random.random() < 0.3,
                quiet=random.random() < 0.2,
            )
        if random.random() < 0.2:
            frame.acknowledged = random.choice((1, self.sequence, *_LARGE))
        return frame

    def monsters(self) -> list[bytes]:
        """As long as a frame may be, and full of whatever there is a list of. No session outlives one of them."""
        room = (16 << 20) - 64
        few, many = b"\x2a\x00" * (room // 2), b"\x12\x00" * (room // 2)
        settle = pb.ClientFrame()
        self.request(settle, "settle")
        settle.requests[0].settle.inos.extend([ROOT_INO] * (room - 100))
        big = pb.ClientFrame()
        self.request(big, "create")
        big.requests[0].create.name = b"x" * (room - 100 - big.ByteSize())
        return [
            few,
            many,
            settle.SerializeToString(),
            big.SerializeToString(),
            pb.ClientFrame(fence=pb.Fence(addresses=[""] * (room // 2 - 8))).SerializeToString(),
            pb.ClientFrame(holds_first=True, holds=[pb.Hold(ino=ROOT_INO, count=1)] * 200_000).SerializeToString(),
            b"\x2a\x80\x80\x80\x08" + bytes(room),
            b"\x0b" * room,  # groups in groups
        ]


# -- what an honest reader makes of them ----------------------------------------------------------------------------


def survives(data: bytes, last_id: int) -> int | None:
    """The last id of the frame if a stream goes on behind it, None if the server must end it there."""
    try:
        frame = pb.ClientFrame.FromString(data)
        for message in frame.requests:
            if message.id <= last_id:
                return None
            last_id = message.id
            if type(decode_request(message)) in CHANGING and not message.sequence:
                return None
    except (DecodeError, ValueError):
        return None
    if frame.HasField("hello") or frame.HasField("fence") or frame.goodbye:
        return None
    if frame.holds or frame.holds_first or frame.holds_complete:
        return None
    return last_id


def is_tame(data: bytes) -> bool:
    """Whether nothing in it takes the keeper of objects a day."""
    try:
        frame = pb.ClientFrame.FromString(data)
    except DecodeError:
        return True
    for message in frame.requests:
        ends = (message.unsettle.end, message.create.unsettled_end)
        for size in (message.set_attributes.size, message.publish.size, *ends):
            if _SIZE_MAX < size <= _FILE_MAX:
                return False
    return True


def keeps_to(data: bytes, is_own: Callable[[int], bool], protected: Collection[bytes]) -> bool:
    """Whether it names no inode but its own, and nothing in the root that is not its own."""
    try:
        frame = pb.ClientFrame.FromString(data)
    except DecodeError:
        return True
    if not all(is_own(hold.ino) for hold in frame.holds):
        return False
    for message in frame.requests:
        kind = message.WhichOneof("kind")
        body = getattr(message, kind) if kind else message
        many = body.open if kind == "lease_returned" else getattr(body, "inos", ())
        inos = [*many, *(getattr(body, name) for name in _INODES if hasattr(body, name))]
        if not all(ino == ROOT_INO or is_own(ino) for ino in inos):
            return False
        if ROOT_INO in inos and {getattr(body, "name", b""), getattr(body, "new_name", b"")} & set(protected):
            return False
    return True
