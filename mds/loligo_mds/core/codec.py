"""Requests, answers and holds, between the dataclasses of the core and the messages of `loligo.proto`. Both ends use it.

Rules
1. A message is filled in place (`frame.requests.add()` first), because copying one into another costs more than filling it.
2. A field of a request has one name here and there, so the functions are made from the dataclasses: see `_REQUESTS`.
   A kind that is missing there, or a field that differs, fails when this module is imported.
3. What cannot be understood is a ValueError. Whether a name, a number or a size is a good one is not asked here.
4. An answer says of what type it is, but for `None` and for an empty list: there is nothing in the message then, and the
   kind of the request tells which of the two it was.

`id`, `sequence` and `errno` are the caller's: they belong to the conversation and not to what is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from struct import error as StructError
from typing import Any

from google.protobuf.message import DecodeError

from loligo_mds.core import requests
from loligo_mds.core.effects import LeaseRecall, Reply
from loligo_mds.core.events import HeldLock, Hold
from loligo_mds.core.requests import LeaseReturned, Opened, Request, Reserved, Usage
from loligo_wire.attributes import Attributes, decode_attributes
from loligo_wire.locks import Lock
from loligo_wire.v1 import loligo_pb2 as pb


@dataclass(slots=True)
class Sync:
    """Everything answered so far survives a power loss. -> None. The server's to answer: no shard knows it."""


# -- frames ---------------------------------------------------------------------------------------------------------


#: Frames up to this length are parsed as they are. In longer ones each part has a bounded length, and there is a bounded number
#: of parts: two bytes on the wire can be a hundred in memory.
PLAIN_FRAME_BYTES = 65536
PART_MAX_BYTES = 128 << 10
PARTS_MAX = 100_000


def parse_client_frame(data: bytes) -> pb.ClientFrame:
    """ValueError if it is none, or has more parts, or longer ones, than any client needs."""
    if len(data) > PLAIN_FRAME_BYTES:
        _check_parts(data)
    try:
        return pb.ClientFrame.FromString(data)  # type: ignore[no-any-return]
    except DecodeError as error:
        raise ValueError(f"no ClientFrame: {error}") from None


def _check_parts(data: bytes) -> None:
    """Every field of a ClientFrame is one varint, or has its length in front."""
    at = parts = 0
    try:
        while at < len(data):
            parts += 1
            key, at = _varint(data, at)
            value, at = _varint(data, at)
            if key & 7 == 2:
                at += value
            elif key & 7 != 0:
                raise ValueError("no ClientFrame: it has a field of an unknown type")
            if parts > PARTS_MAX or (key & 7 == 2 and value > PART_MAX_BYTES):
                raise ValueError("no ClientFrame: a part is too long, or there are too many")
    except IndexError:
        raise ValueError("no ClientFrame: its end is missing") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends)"""
    byte = data[at]
    value, shift = byte & 0x7F, 7
    while byte & 0x80 and shift < 70:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at + 1


def parse_server_frame(data: bytes) -> pb.ServerFrame:
    try:
        return pb.ServerFrame.FromString(data)  # type: ignore[no-any-return]
    except DecodeError as error:
        raise ValueError(f"no ServerFrame: {error}") from None


# -- requests -------------------------------------------------------------------------------------------------------

#: Every request of the wire, by the name of its field in the message `Request`.
_REQUESTS: dict[str, type] = {
    "lookup": requests.Lookup,
    "get_attributes": requests.GetAttributes,
    "set_attributes": requests.SetAttributes,
    "record_access": requests.RecordAccess,
    "create": requests.Create,
    "create_unnamed": requests.CreateUnnamed,
    "unlink": requests.Unlink,
    "remove_directory": requests.RemoveDirectory,
    "rename": requests.Rename,
    "link": requests.Link,
    "read_link": requests.ReadLink,
    "read_directory": requests.ReadDirectory,
    "get_xattr": requests.GetXattr,
    "list_xattrs": requests.ListXattrs,
    "set_xattr": requests.SetXattr,
    "remove_xattr": requests.RemoveXattr,
    "open": requests.Open,
    "close": requests.Close,
    "claim": requests.Claim,
    "release": requests.Release,
    "yielded": requests.Yielded,
    "reported": requests.Reported,
    "lease_returned": requests.LeaseReturned,
    "reserve_inodes": requests.ReserveInodes,
    "remove_tree": requests.RemoveTree,
    "list_batches": requests.ListBatches,
    "list_removed": requests.ListRemoved,
    "list_places": requests.ListPlaces,
    "read_trash": requests.ReadTrash,
    "look_in_trash": requests.LookInTrash,
    "fill_in": requests.FillIn,
    "restore": requests.Restore,
    "purge_batch": requests.PurgeBatch,
    "set_lock": requests.SetLock,
    "get_lock": requests.GetLock,
    "cancel_lock": requests.CancelLock,
    "read_inline": requests.ReadInline,
    "unsettle": requests.Unsettle,
    "publish": requests.Publish,
    "settle": requests.Settle,
    "get_usage": requests.GetUsage,
    "sync": Sync,
}

_Decode = Callable[[Any], Any]
_Encode = Callable[[Any, Any], None]


def _names(kind: type, message: Any) -> list[str]:
    names = [field.name for field in fields(kind)]
    if set(names) != set(message.DESCRIPTOR.fields_by_name):
        raise TypeError(f"{kind.__name__} has other fields than its message")
    return names


def _is_optional(message: Any, name: str) -> bool:
    return bool(message.DESCRIPTOR.fields_by_name[name].has_presence)


def _is_repeated(message: Any, name: str) -> bool:
    return bool(message.DESCRIPTOR.fields_by_name[name].is_repeated)


def _decoder(kind: type, message: Any) -> _Decode:
    names = _names(kind, message)
    repeated = [place for place, name in enumerate(names) if _is_repeated(message, name)]
    optional = [(place, name) for place, name in enumerate(names) if _is_optional(message, name)]
    if not names:
        return lambda body: kind()
    values_of = attrgetter(*names)
    if repeated:

        def decode_many(body: Any) -> Any:
            values = [getattr(body, name) for name in names]
            for place in repeated:
                values[place] = list(values[place])
            return kind(*values)

        return decode_many
    if optional:

        def decode_some(body: Any) -> Any:
            values = list(values_of(body))
            for place, name in optional:
                if not body.HasField(name):
                    values[place] = None
            return kind(*values)

        return decode_some
    if len(names) == 1:
        return lambda body: kind(values_of(body))
    return lambda body: kind(*values_of(body))


def _encoder(field: str, kind: type, message: Any) -> _Encode:
    """Fills the request's part of a message. What is as the message has it from the start is not written."""
    names = _names(kind, message)
    body_of = attrgetter(field)
    if not names:
        return lambda request, whole: body_of(whole).SetInParent()
    repeated = [name for name in names if _is_repeated(message, name)]
    optional = [name for name in names if _is_optional(message, name)]
    always = [name for name in names if name not in repeated and name not in optional]

    def encode(request: Any, whole: Any) -> None:
        body = body_of(whole)
        body.SetInParent()
        for name in always:
            value = getattr(request, name)
            if value:
                setattr(body, name, value)
        for name in optional:
            value = getattr(request, name)
            if value is not None:
                setattr(body, name, value)
        for name in repeated:
            getattr(body, name).extend(getattr(request, name))

    return encode


_DECODERS: dict[str, _Decode] = {}
_ENCODERS: dict[type, _Encode] = {}
for _field, _kind in _REQUESTS.items():
    _message = getattr(pb.Request(), _field)
    _DECODERS[_field] = _decoder(_kind, _message)
    _ENCODERS[_kind] = _encoder(_field, _kind, _message)
if set(_REQUESTS) != {field.name for field in pb.Request.DESCRIPTOR.oneofs_by_name["kind"].fields}:
    raise TypeError("the requests of the wire are others than those known here")


def decode_request(message: pb.Request) -> Request | Sync:
    """What is asked. ValueError when that is nothing, or something that only a later version knows."""
    field = message.WhichOneof("kind")
    if field is None:
        raise ValueError("a request that asks for nothing known")
    return _DECODERS[field](getattr(message, field))  # type: ignore[no-any-return]


def encode_request(request: Request | Sync, message: pb.Request) -> None:
    """Fill `message`. ValueError or TypeError when a value does not fit its field, or no such request is sent."""
    encode = _ENCODERS.get(type(request))
    if encode is None:
        raise ValueError(f"{type(request).__name__} is not asked over the wire")
    encode(request, message)


# -- answers --------------------------------------------------------------------------------------------------------


def _record(ino: int, record: bytes) -> Attributes:
    try:
        return decode_attributes(ino, record)
    except StructError as error:
        raise ValueError(f"the record of inode {ino}: {error}") from None


def encode_answer(value: Any, message: pb.Answer) -> None:
    """Fill `message` with what a `Reply` without an errno says."""
    if value is None:
        return
    encode = _ANSWER_ENCODERS.get(type(value))
    if encode is None:
        raise ValueError(f"no answer is a {type(value).__name__}")
    encode(value, message)


def _encode_inode(value: Attributes, inode: pb.Inode) -> None:
    inode.ino = value.ino
    inode.record = value.encode()


def _encode_attributes(value: Attributes, message: pb.Answer) -> None:
    _encode_inode(value, message.inode)


def encode_leases(reply: Reply, message: pb.Answer) -> None:
    """What covers the answer, and the directories that it is about."""
    for directory in reply.directories:
        _encode_inode(directory, message.directories.add())
    if reply.leases:
        message.leases.extend(reply.leases)
    if reply.unsure:
        message.unsure = True
    if reply.repeated:
        message.repeated = True
    if reply.forgets:
        message.forgets.extend(reply.forgets)
    if reply.delegations:
        message.delegations.extend(reply.delegations)


def _encode_data(value: bytes, message: pb.Answer) -> None:
    message.data = value


def _encode_opened(value: Opened, message: pb.Answer) -> None:
    opened = message.opened
    _encode_inode(value.attributes, opened.inode)
    if value.contended:
        opened.contended = True
    if value.inline is not None:
        opened.inline = value.inline


def _encode_usage(value: Usage, message: pb.Answer) -> None:
    usage = message.usage
    usage.SetInParent()
    usage.inodes = value.inodes
    usage.size_bytes = value.size_bytes
    usage.trash_inodes = value.trash_inodes
    usage.trash_bytes = value.trash_bytes


def _encode_reserved(value: Reserved, message: pb.Answer) -> None:
    message.reserved.first = value.first
    message.reserved.count = value.count


def _encode_lock(value: Lock, message: pb.Answer) -> None:
    lock = message.lock
    lock.SetInParent()
    lock.owner = value.owner
    lock.start = value.start
    lock.end = value.end
    lock.exclusive = value.exclusive
    lock.pid = value.pid


def _encode_list(value: list[Any], message: pb.Answer) -> None:
    if not value:
        return
    if type(value[0]) is bytes:
        message.names.names.extend(value)
        return
    add = message.listing.entries.add
    for name, cookie, ino, kind, attributes in value:
        if attributes is None:
            add(name=name, cookie=cookie, ino=ino, kind=kind)
        else:
            add(name=name, cookie=cookie, ino=ino, kind=kind, record=attributes.encode())


_ANSWER_ENCODERS: dict[type, Callable[[Any, pb.Answer], None]] = {
    Attributes: _encode_attributes,
    bytes: _encode_data,
    Opened: _encode_opened,
    Usage: _encode_usage,
    Reserved: _encode_reserved,
    Lock: _encode_lock,
    list: _encode_list,
}


def decode_answer(kind: type, message: pb.Answer) -> Any:
    """What a request of type `kind` was answered, when `errno` is 0. ValueError when that is no answer to it."""
    field = message.WhichOneof("value")
    decode = _ANSWER_DECODERS.get((kind, field))
    if decode is None:
        raise ValueError(f"{kind.__name__} was answered with {field or 'nothing'}")
    return decode(message)


@dataclass(slots=True)
class Covered:
    """What an answer says besides: see `loligo_mds.core.leases`, and `Reply` in `loligo_mds.core.effects`."""

    directories: list[Attributes]
    leases: list[int]
    unsure: bool
    forgets: list[int]
    repeated: bool = False
    delegations: Sequence[int] = ()


def decode_covered(message: pb.Answer) -> Covered:
    directories = [_record(inode.ino, inode.record) for inode in message.directories]
    return Covered(
        directories,
        list(message.leases),
        message.unsure,
        list(message.forgets),
        message.repeated,
        list(message.delegations),
    )


def _decode_inode(message: pb.Answer) -> Attributes:
    inode = message.inode
    return _record(inode.ino, inode.record)


def _decode_opened(message: pb.Answer) -> Opened:
    opened = message.opened
    inode = opened.inode
    inline = opened.inline if opened.HasField("inline") else None
    return Opened(_record(inode.ino, inode.record), opened.contended, inline)


def _decode_names(message: pb.Answer) -> list[bytes]:
    return list(message.names.names)


def _decode_listing(message: pb.Answer) -> list[tuple[bytes, int, int, int, Attributes | None]]:
    return [
        (
            entry.name,
            entry.cookie,
            entry.ino,
            entry.kind,
            _record(entry.ino, entry.record) if entry.HasField("record") else None,
        )
        for entry in message.listing.entries
    ]


def _decode_data(message: pb.Answer) -> bytes:
    return message.data


def _decode_usage(message: pb.Answer) -> Usage:
    usage = message.usage
    return Usage(usage.inodes, usage.size_bytes, usage.trash_inodes, usage.trash_bytes)


def _decode_reserved(message: pb.Answer) -> Reserved:
    return Reserved(message.reserved.first, message.reserved.count)


def _decode_lock(message: pb.Answer) -> Lock:
    """Whose it is only the server knows."""
    lock = message.lock
    return Lock(0, lock.owner, lock.start, lock.end, lock.exclusive, lock.pid)


def _decode_nothing(message: pb.Answer) -> None:
    return None


def _decode_empty(message: pb.Answer) -> list[Any]:
    return []


#: (kind of request, field of the answer) -> how to read it.
_ANSWER_DECODERS: dict[tuple[type, str | None], Callable[[pb.Answer], Any]] = {
    (requests.Lookup, "inode"): _decode_inode,
    (requests.Lookup, None): _decode_nothing,
    (requests.GetAttributes, "inode"): _decode_inode,
    (requests.SetAttributes, "inode"): _decode_inode,
    (requests.RecordAccess, "inode"): _decode_inode,
    (requests.Create, "inode"): _decode_inode,
    (requests.CreateUnnamed, "inode"): _decode_inode,
    (requests.Unlink, "inode"): _decode_inode,
    (requests.RemoveDirectory, "inode"): _decode_inode,
    (requests.RemoveTree, "inode"): _decode_inode,
    (requests.Rename, "inode"): _decode_inode,
    (requests.Rename, None): _decode_nothing,
    (requests.Link, "inode"): _decode_inode,
    (requests.ReadLink, "data"): _decode_data,
    (requests.ReadDirectory, "listing"): _decode_listing,
    (requests.ReadDirectory, None): _decode_empty,
    (requests.GetXattr, "data"): _decode_data,
    (requests.ListXattrs, "names"): _decode_names,
    (requests.ListXattrs, None): _decode_empty,
    (requests.SetXattr, "inode"): _decode_inode,
    (requests.RemoveXattr, "inode"): _decode_inode,
    (requests.Open, "opened"): _decode_opened,
    (requests.Close, None): _decode_nothing,
    (requests.Claim, "inode"): _decode_inode,
    (requests.Release, None): _decode_nothing,
    (requests.Yielded, None): _decode_nothing,
    (requests.Reported, None): _decode_nothing,
    (requests.LeaseReturned, None): _decode_nothing,
    (requests.ReserveInodes, "reserved"): _decode_reserved,
    (requests.SetLock, None): _decode_nothing,
    (requests.GetLock, "lock"): _decode_lock,
    (requests.GetLock, None): _decode_nothing,
    (requests.CancelLock, None): _decode_nothing,
    (requests.ListBatches, "names"): _decode_names,
    (requests.ListBatches, None): _decode_empty,
    (requests.ListRemoved, "names"): _decode_names,
    (requests.ListRemoved, None): _decode_empty,
    (requests.ListPlaces, "names"): _decode_names,
    (requests.ListPlaces, None): _decode_empty,
    (requests.ReadTrash, "listing"): _decode_listing,
    (requests.ReadTrash, None): _decode_empty,
    (requests.LookInTrash, "inode"): _decode_inode,
    (requests.LookInTrash, None): _decode_nothing,
    (requests.FillIn, "inode"): _decode_inode,
    (requests.Restore, "inode"): _decode_inode,
    (requests.PurgeBatch, None): _decode_nothing,
    (requests.ReadInline, "data"): _decode_data,
    (requests.Unsettle, None): _decode_nothing,
    (requests.Publish, "inode"): _decode_inode,
    (requests.Settle, None): _decode_nothing,
    (requests.GetUsage, "usage"): _decode_usage,
    (Sync, None): _decode_nothing,
}


# -- what is open ---------------------------------------------------------------------------------------------------


def decode_hold(message: pb.Hold) -> Hold:
    return Hold(message.ino, message.count, message.writes, message.contended, message.claimed, message.quiet)


def encode_hold(hold: Hold, message: pb.Hold) -> None:
    message.ino = hold.ino
    message.count = hold.count
    message.writes = hold.writes
    message.contended = hold.contended
    message.claimed = hold.claimed
    message.quiet = hold.quiet


def decode_lock(message: pb.HeldLock) -> HeldLock:
    return HeldLock(
        message.ino, message.owner, message.start, message.end, message.exclusive, message.whole, message.pid
    )


def encode_lock(lock: HeldLock, message: pb.HeldLock) -> None:
    message.ino = lock.ino
    message.owner = lock.owner
    message.start = lock.start
    message.end = lock.end
    message.exclusive = lock.exclusive
    message.whole = lock.whole
    message.pid = lock.pid


def decode_recall(message: pb.LeaseRecall) -> LeaseReturned:
    """What it is to be answered with."""
    return LeaseReturned(message.ino, message.attributes_of, message.share)


def encode_recall(recall: LeaseRecall, message: pb.LeaseRecall) -> None:
    message.ino = recall.ino
    message.attributes_of = recall.attributes_of
    message.share = recall.share


def decode_resume(message: pb.Resume) -> Attributes:
    return _record(message.ino, message.record)


def encode_resume(attributes: Attributes, message: pb.Resume) -> None:
    message.ino = attributes.ino
    message.record = attributes.encode()
