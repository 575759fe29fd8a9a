"""What a mount through a metadata server may be called."""

import pytest

from loligo_client.shell.server_source import ServerSource, SourceError, parse_source


@pytest.mark.parametrize("source", ["work", "file:///srv/work/meta", "big.volume"])
def test_names_and_urls_are_none_of_a_server(source: str) -> None:
    assert parse_source(source) is None


@pytest.mark.parametrize(
    ("source", "means"),
    [
        ("mds1:9440/work", ServerSource(("mds1:9440",), "work", b"")),
        ("mds1:9440/work/", ServerSource(("mds1:9440",), "work", b"")),
        ("10.0.0.1:1,mds2:65535/v-1", ServerSource(("10.0.0.1:1", "mds2:65535"), "v-1", b"")),
        ("[::1]:9440/work/a/b c/ü", ServerSource(("[::1]:9440",), "work", "a/b c/ü".encode())),
        ("[fe80::1%eth0]:9440/work", ServerSource(("[fe80::1%eth0]:9440",), "work", b"")),
        ("mds1:9440/work//a//b/", ServerSource(("mds1:9440",), "work", b"a/b")),
    ],
)
def test_addresses_volume_and_directory(source: str, means: ServerSource) -> None:
    assert parse_source(source) == means


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("mds1:9440", "names no volume"),
        ("mds1:9440/", "names no volume"),
        ("mds1/work:9440", "no name of a volume"),
        ("mds1:/work", "no HOST:PORT"),
        (":9440/work", "no HOST:PORT"),
        ("mds1:0/work", "no HOST:PORT"),
        ("mds1:65536/work", "no HOST:PORT"),
        ("mds1:94x/work", "no HOST:PORT"),
        ("mds1:9440,/work", "no HOST:PORT"),
        ("::1:9440/work", "in brackets"),
        ("[::g]:9440/work", "no IPv6 address"),
        ("mds1:9440/.work", "no name of a volume"),
        ("mds1:9440/work/../other", "without '.' and '..'"),
    ],
)
def test_mistakes_are_explained(source: str, says: str) -> None:
    with pytest.raises(SourceError, match=says):
        parse_source(source)


@pytest.mark.parametrize(
    ("addresses", "stays"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1,127.3.2.1:1,[::1]:1", True),
        ("127.0.0.1:1,mds1:1", False),
        ("10.0.0.1:1", False),
        ("[fe80::1%eth0]:1", False),
        ("localhost.example.org:1", False),
    ],
)
def test_who_is_on_this_machine(addresses: str, stays: bool) -> None:
    source = parse_source(f"{addresses}/work")
    assert source is not None and source.stays_here is stays
