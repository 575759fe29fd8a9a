"""What is asked and answered arrives as it was sent, whatever it is; what is no message is told as such."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st

from loligo_mds.core import requests
from loligo_mds.core.codec import (
    Sync,
    decode_answer,
    decode_hold,
    decode_lock,
    decode_request,
    decode_resume,
    encode_answer,
    encode_hold,
    encode_lock,
    encode_request,
    encode_resume,
    parse_client_frame,
    parse_server_frame,
)
from loligo_mds.core.events import HeldLock, Hold
from loligo_wire.attributes import NS_MAX, NS_MIN, Attributes
from loligo_wire.locks import Lock
from loligo_wire.v1 import loligo_pb2 as pb

COMMON = Path(__file__).parents[2] / "common"

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
times = st.integers(NS_MIN, NS_MAX)
names = st.binary(max_size=255)
_NUMBERS = {
    "mode": u32,
    "uid": u32,
    "gid": u32,
    "umask": u32,
    "rdev": u32,
    "flags": u32,
    "count": u32,
    "pid": u32,
    "word": u32,
    "rate": u32,
}
_BYTES = {"name", "new_name", "target", "value", "inline", "label", "became"}
_OPTIONAL = {(requests.SetAttributes, name) for name in ("mode", "uid", "gid", "size", "atime_ns", "mtime_ns")} | {
    (requests.Publish, "mtime_ns"),
    (requests.Publish, "inline"),
    (requests.Create, "inline"),
}

_OF_THE_SHARD = (requests.ListUnsettled, requests.Purge, requests.Survey, requests.CountTree)
ON_THE_WIRE = [kind for kind in get_args(requests.Request) if kind not in _OF_THE_SHARD] + [Sync]


def _values(kind: type, name: str, annotation: str) -> st.SearchStrategy[Any]:
    if name in ("inos", "open"):
        return st.lists(u64, max_size=5)
    strategy: st.SearchStrategy[Any]
    if name in _BYTES:
        strategy = names
    elif name.endswith("_ns"):
        strategy = times
    elif annotation == "bool":
        strategy = st.booleans()
    else:
        strategy = _NUMBERS.get(name, u64)
    return st.none() | strategy if (kind, name) in _OPTIONAL else strategy


def some_request(kind: type) -> st.SearchStrategy[Any]:
    return st.builds(
        kind, **{field.name: _values(kind, field.name, getattr(field.type, "__name__", "")) for field in fields(kind)}
    )


attributes = st.builds(
    Attributes,
    ino=u64,
    mode=u32,
    uid=u32,
    gid=u32,
    nlink=u32,
    rdev=u32,
    generation=u32,
    flags=u32,
    block_bytes=u32,
    size=u64,
    parent=u64,
    atime_ns=times,
    mtime_ns=times,
    ctime_ns=times,
    btime_ns=times,
    trashed=u32,
    name=names,
)
listings = st.lists(
    st.tuples(names, u64, u64, u32, st.none() | attributes).map(
        lambda row: row if row[4] is None else (*row[:2], row[4].ino, *row[3:])
    ),
    max_size=5,
)
nothing = st.none()

#: Every kind of request, and what it may be answered.
ANSWERS: dict[type, st.SearchStrategy[Any]] = {
    requests.Lookup: nothing | attributes,
    requests.GetAttributes: attributes,
    requests.SetAttributes: attributes,
    requests.RecordAccess: attributes,
    requests.Create: attributes,
    requests.CreateUnnamed: attributes,
    requests.Unlink: attributes,
    requests.RemoveDirectory: attributes,
    requests.RemoveTree: attributes,
    requests.Rename: nothing | attributes,
    requests.Link: attributes,
    requests.ReadLink: names,
    requests.ReadDirectory: listings,
    requests.GetXattr: names,
    requests.ListXattrs: st.lists(names, max_size=5),
    requests.SetXattr: attributes,
    requests.RemoveXattr: attributes,
    requests.Open: st.builds(requests.Opened, attributes, st.booleans()),
    requests.Close: nothing,
    requests.Claim: attributes,
    requests.Release: nothing,
    requests.Yielded: nothing,
    requests.Reported: nothing,
    requests.LeaseReturned: nothing,
    requests.ReserveInodes: st.builds(requests.Reserved, u64, u32),
    requests.SetLock: nothing,
    requests.GetLock: nothing | st.builds(Lock, st.just(0), u64, u64, u64, st.booleans(), u32),
    requests.CancelLock: nothing,
    requests.ReadInline: names,
    requests.Unsettle: nothing,
    requests.Publish: attributes,
    requests.Settle: nothing,
    requests.ListBatches: st.lists(names, max_size=5),
    requests.ListRemoved: st.lists(names, max_size=5),
    requests.ListPlaces: st.lists(names, max_size=5),
    requests.ReadTrash: listings,
    requests.LookInTrash: nothing | attributes,
    requests.FillIn: attributes,
    requests.Restore: attributes,
    requests.PurgeBatch: nothing,
    requests.GetUsage: st.builds(requests.Usage, u64, u64, u64, u64),
    Sync: nothing,
}


@pytest.mark.parametrize("kind", ON_THE_WIRE, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_request_arrives_as_it_was_asked(kind: type, data: st.DataObject) -> None:
    request = data.draw(some_request(kind))
    frame = pb.ClientFrame()
    encode_request(request, frame.requests.add(id=1))
    arrived = parse_client_frame(frame.SerializeToString())
    assert decode_request(arrived.requests[0]) == request


@pytest.mark.parametrize("kind", ON_THE_WIRE, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_an_answer_arrives_as_it_was_given(kind: type, data: st.DataObject) -> None:
    value = data.draw(ANSWERS[kind])
    frame = pb.ServerFrame()
    encode_answer(value, frame.answers.add(id=1))
    arrived = parse_server_frame(frame.SerializeToString())
    assert decode_answer(kind, arrived.answers[0]) == value


@given(st.builds(HeldLock, u64, u64, u64, u64, st.booleans(), st.booleans(), u32))
def test_a_lock_arrives_as_it_was_stated(lock: HeldLock) -> None:
    frame = pb.ClientFrame()
    encode_lock(lock, frame.locks.add())
    assert decode_lock(parse_client_frame(frame.SerializeToString()).locks[0]) == lock


@given(st.builds(Hold, u64, u32, st.booleans(), st.booleans(), st.booleans(), st.booleans()))
def test_a_hold_arrives_as_it_was_stated(hold: Hold) -> None:
    message = pb.Hold()
    encode_hold(hold, message)
    assert decode_hold(pb.Hold.FromString(message.SerializeToString())) == hold


@given(attributes)
def test_what_a_file_is_when_it_may_be_used_again(told: Attributes) -> None:
    message = pb.Resume()
    encode_resume(told, message)
    assert decode_resume(message) == told


@given(st.binary(max_size=64))
def test_garbage_is_no_frame_or_a_strange_one(data: bytes) -> None:
    for parse in (parse_client_frame, parse_server_frame):
        try:
            parse(data)
        except ValueError:
            continue


def test_what_cannot_be_understood_is_told() -> None:
    with pytest.raises(ValueError, match="no ClientFrame"):
        parse_client_frame(b"\xff\xff")
    with pytest.raises(ValueError, match="no ServerFrame"):
        parse_server_frame(b"\xff\xff")
    with pytest.raises(ValueError, match="asks for nothing"):
        decode_request(pb.Request(id=7))
    with pytest.raises(ValueError, match="ListUnsettled"):
        encode_request(requests.ListUnsettled(0, 1), pb.Request())
    with pytest.raises(ValueError, match="Purge"):
        encode_request(requests.Purge(1), pb.Request())
    with pytest.raises(ValueError, match="no answer is a dict"):
        encode_answer({}, pb.Answer())
    with pytest.raises(ValueError, match="Lookup was answered with usage"):
        decode_answer(requests.Lookup, pb.Answer(usage=pb.Usage()))
    with pytest.raises(ValueError, match="GetAttributes was answered with nothing"):
        decode_answer(requests.GetAttributes, pb.Answer())
    with pytest.raises(ValueError, match="record of inode 5"):
        decode_answer(requests.Lookup, pb.Answer(inode=pb.Inode(ino=5, record=b"short")))


@pytest.mark.parametrize(
    "data",
    [
        b"\x2a\x00" * 200_000,
        b"\x12\x00" * 200_000,
        pb.ClientFrame(requests=[pb.Request(id=1, settle=pb.Settle(inos=[1] * 200_000))]).SerializeToString(),
        b"\x2a\xff\xff\xff\x07" + bytes(100_000),
        b"\x0b" * 100_000,
        b"\x80" * 100_000,
    ],
    ids=["requests", "holds", "inodes", "no-end", "groups", "no-number"],
)
def test_a_long_frame_is_not_let_grow_in_memory(data: bytes) -> None:
    with pytest.raises(ValueError, match="no ClientFrame"):
        parse_client_frame(data)


def test_the_longest_frames_of_clients_are_understood() -> None:
    writes = pb.ClientFrame(
        requests=[pb.Request(id=id, set_xattr=pb.SetXattr(value=bytes(65536))) for id in range(1, 201)]
    )
    assert parse_client_frame(writes.SerializeToString()) == writes
    holds = pb.ClientFrame(holds_first=True, holds=[pb.Hold(ino=1 << 40, count=1)] * 65536)
    assert parse_client_frame(holds.SerializeToString()) == holds


def test_a_number_that_does_not_fit_is_refused_by_the_sender() -> None:
    with pytest.raises(ValueError):
        encode_request(requests.GetAttributes(1 << 64), pb.Request())


def test_the_generated_code_is_current(tmp_path: Path) -> None:
    """`make proto` makes it anew."""
    code = protoc.main(
        ["protoc", f"-I{COMMON}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", "loligo_wire/v1/loligo.proto"]
    )
    assert code == 0
    for name in ("loligo_pb2.py", "loligo_pb2.pyi"):
        generated = (tmp_path / "loligo_wire/v1" / name).read_text()
        assert (COMMON / "loligo_wire/v1" / name).read_text() == generated, name
