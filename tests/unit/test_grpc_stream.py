"""The client's end of one gRPC stream, in bytes. That real servers understand it is shown in `server/`."""

import random
from struct import pack

import pytest

from loligo_client.core.grpc_stream import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_MAX_BYTES,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RECEIVE_WINDOW_BYTES,
    RST_STREAM,
    SETTINGS,
    SETTINGS_INITIAL_WINDOW_SIZE,
    STREAM,
    WINDOW_UPDATE,
    GrpcStream,
    frame,
)

FIRST_WINDOW = 65535


def make(message_max_bytes: int = 1 << 20) -> GrpcStream:
    return GrpcStream(path="/a/B", authority="host:1", tls=False, message_max_bytes=message_max_bytes)


def make_begun() -> GrpcStream:
    stream = make()
    stream.out.clear()
    return stream


def frames(data: bytes | bytearray) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload)"""
    found = []
    data = bytes(data)
    while data:
        length = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
        assert len(data) >= 9 + length
        data = data[9 + length :]
    return found


def message(content: bytes) -> bytes:
    return pack(">BI", 0, len(content)) + content


def sent_bytes(stream: GrpcStream) -> bytes:
    """The DATA in `out`, which is taken away."""
    data = b"".join(payload for kind, _, _, payload in frames(stream.out) if kind == DATA)
    stream.out.clear()
    return data


def window(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, pack(">I", more))


def test_a_stream_begins_with_preface_settings_and_headers() -> None:
    out = bytes(make().out)
    assert out.startswith(PREFACE)
    settings, update, headers = frames(out.removeprefix(PREFACE))
    assert settings[:3] == (SETTINGS, 0, 0)
    assert pack(">HI", SETTINGS_INITIAL_WINDOW_SIZE, RECEIVE_WINDOW_BYTES) in settings[3]
    assert update == (WINDOW_UPDATE, 0, 0, pack(">I", RECEIVE_WINDOW_BYTES - FIRST_WINDOW))
    assert headers[:3] == (HEADERS, END_HEADERS, STREAM)
    assert b"\0\x05:path\x04/a/B" in headers[3]
    assert b"\0\x0ccontent-type\x10application/grpc" in headers[3]


def test_long_header_values_have_long_lengths() -> None:
    stream = GrpcStream(path="/" + "x" * 299, authority="", tls=False, message_max_bytes=1)
    assert b"\x05:path" + bytes((127, (300 - 127) & 0x7F | 0x80, (300 - 127) >> 7)) + b"/xxx" in stream.out


def test_messages_leave_behind_their_lengths() -> None:
    stream = make_begun()
    stream.send(b"one")
    stream.send(b"")
    assert frames(stream.out) == [(DATA, 0, STREAM, message(b"one")), (DATA, 0, STREAM, message(b""))]


def test_long_messages_leave_in_frames_of_16_kib_and_wait_for_the_windows() -> None:
    stream = make_begun()
    content = random.Random(1).randbytes(200_000)
    stream.send(content)
    stream.send(b"behind it")
    assert all(len(payload) <= FRAME_MAX_BYTES for _, _, _, payload in frames(stream.out))
    went = sent_bytes(stream)
    assert len(went) == FIRST_WINDOW and stream.is_clogged
    stream.receive(window(STREAM, 300_000))
    assert sent_bytes(stream) == b"", "the window of the connection is used up"
    stream.receive(window(0, 10))
    went += sent_bytes(stream)
    assert len(went) == FIRST_WINDOW + 10
    stream.receive(window(0, 300_000))
    went += sent_bytes(stream)
    assert went == message(content) + message(b"behind it") and not stream.is_clogged


def test_settings_move_the_window_of_the_stream_also_below_zero() -> None:
    stream = make_begun()
    stream.receive(window(0, 1_000_000))
    stream.send(bytes(50_000))
    stream.receive(frame(SETTINGS, 0, 0, pack(">HI", SETTINGS_INITIAL_WINDOW_SIZE, 10_000)))
    assert frames(stream.out)[-1] == (SETTINGS, ACK, 0, b"")
    sent_bytes(stream)
    stream.send(bytes(100))
    assert sent_bytes(stream) == b""
    stream.receive(window(STREAM, 40_005))  # 10,000 - 50,005 + 40,005
    assert sent_bytes(stream) == b""
    stream.receive(window(STREAM, 105))
    assert sent_bytes(stream) == message(bytes(100))


def conversation(chance: random.Random) -> tuple[bytes, list[bytes]]:
    """Bytes of a server, and the messages in them."""
    contents = [chance.randbytes(chance.choice((0, 1, 5, 100, 20_000))) for _ in range(30)]
    stream = b"".join(message(content) for content in contents)
    data = frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, STREAM, b"\x88")
    while stream:
        piece, stream = stream[: chance.randrange(1, FRAME_MAX_BYTES - 300)], stream
        stream = stream[len(piece) :]
        if chance.random() < 0.3:
            padding = chance.randrange(256)
            data += frame(DATA, PADDED, STREAM, bytes((padding,)) + piece + bytes(padding))
        else:
            data += frame(DATA, 0, STREAM, piece)
        data += chance.choice((b"", window(0, 5), frame(99, 7, 3, b"of the future"), frame(PING, 0, 0, b"12345678")))
    return data, contents


@pytest.mark.parametrize("seed", range(20))
def test_messages_come_whole_however_their_bytes_come(seed: int) -> None:
    chance = random.Random(seed)
    data, contents = conversation(chance)
    stream = make_begun()
    pings = data.count(frame(PING, 0, 0, b"12345678"))
    found = []
    while data:
        length = chance.choice((1, 3, 9, 50, 5000, 100_000))
        found += stream.receive(data[:length])
        data = data[length:]
    assert found == contents
    assert bytes(stream.out).count(frame(PING, ACK, 0, b"12345678")) == pings
    assert not stream.ended


def test_the_server_is_told_what_was_taken_before_its_window_is_used_up() -> None:
    stream = make_begun()
    payload = frame(DATA, 0, STREAM, message(bytes(FRAME_MAX_BYTES - 5)))
    told = taken = 0
    for _ in range(2 * RECEIVE_WINDOW_BYTES // FRAME_MAX_BYTES):
        stream.receive(payload)
        taken += FRAME_MAX_BYTES
        updates = frames(stream.out)
        stream.out.clear()
        of_stream = sum(int.from_bytes(more, "big") for _, _, number, more in updates if number == STREAM)
        of_connection = sum(int.from_bytes(more, "big") for _, _, number, more in updates if number == 0)
        assert of_stream == of_connection
        told += of_stream
        assert taken - told < RECEIVE_WINDOW_BYTES // 2
    assert told > RECEIVE_WINDOW_BYTES


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (frame(HEADERS, END_HEADERS | END_STREAM, STREAM, b"whatever"), "ended the conversation"),
        (frame(DATA, END_STREAM, STREAM, b""), "ended the conversation"),
        (frame(RST_STREAM, 0, STREAM, pack(">I", 8)), "broke the conversation off"),
        (frame(GOAWAY, 0, 0, pack(">II", 1, 0) + b"going down") + frame(RST_STREAM, 0, STREAM, bytes(4)), "going down"),
        (frame(DATA, 0, 3, b"x"), "data of a stream that nobody opened"),
        (frame(DATA, PADDED, STREAM, b"\x05abcd"), "more padding than data"),
        (frame(DATA, 0, STREAM, b"\x01\0\0\0\x01x"), "compressed"),
        (frame(DATA, 0, STREAM, pack(">BI", 0, 1 << 21)), "a message of 2097152 bytes"),
        (frame(SETTINGS, 0, 0, b"12345"), "settings of a wrong length"),
        (frame(SETTINGS, 0, 0, pack(">HI", SETTINGS_INITIAL_WINDOW_SIZE, 1 << 31)), "too large"),
        (frame(WINDOW_UPDATE, 0, 0, b"123"), "window of a wrong length"),
        (frame(PUSH_PROMISE, 0, STREAM, b""), "nobody asked for"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does it speak gRPC"),
    ],
)
def test_the_end_is_told_with_its_reason_behind_the_messages_before_it(last: bytes, says: str) -> None:
    stream = make_begun()
    assert stream.receive(frame(DATA, 0, STREAM, message(b"before")) + last) == [b"before"]
    assert says in stream.ended


def test_a_goodbye_lets_the_stream_go_on_to_its_end() -> None:
    stream = make_begun()
    goodbye = frame(GOAWAY, 0, 0, pack(">II", 1, 0))
    assert stream.receive(goodbye + frame(DATA, 0, STREAM, message(b"still here"))) == [b"still here"]
    assert not stream.ended


@pytest.mark.parametrize("seed", range(50))
def test_noise_ends_a_stream_or_is_waited_for_and_nothing_else(seed: int) -> None:
    chance = random.Random(seed)
    data, _ = conversation(chance)
    noisy = bytearray(data)
    for _ in range(chance.randrange(1, 20)):
        noisy[chance.randrange(len(noisy))] = chance.randrange(256)
    stream = make_begun()
    while noisy and not stream.ended:
        stream.receive(bytes(noisy[:1000]))
        del noisy[:1000]
