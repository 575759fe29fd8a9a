"""URLs of object stores: what they mean, and that a wrong one says what a right one looks like."""

import pytest

from loligo_runtime.object_store import UrlError
from loligo_runtime.object_url import FileUrl, RadosUrl, parse_object_url


@pytest.mark.parametrize(
    ("url", "meaning"),
    [
        ("file:///srv/data", FileUrl(b"/srv/data")),
        ("file:///srv/my%20data%FF", FileUrl(b"/srv/my data\xff")),
        (
            "rados://pool?conf=/etc/ceph/ceph.conf",
            RadosUrl("pool", "", "/etc/ceph/ceph.conf", "client.admin"),
        ),
        (
            "rados://My.Pool_1/vol%201?conf=/c.conf&name=client.x",
            RadosUrl("My.Pool_1", "vol 1", "/c.conf", "client.x"),
        ),
    ],
)
def test_right_urls(url: str, meaning: FileUrl | RadosUrl) -> None:
    assert parse_object_url(url) == meaning


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "names no object store.*file:///.*rados://"),
        ("/srv/data", "names no object store"),
        ("s3://bucket", "names no object store"),
        ("file://srv/data", "no local folder.*file:///absolute/folder"),
        ("file:relative", "no local folder"),
        ("file:///srv/data?x=1", "no local folder"),
        ("file:///srv/%00", "zero byte"),
        ("rados://[", "not a URL"),
        ("rados:///ns?conf=/c", "names no pool.*rados://POOL"),
        ("rados://pool", "needs conf="),
        ("rados://pool?conf=relative.conf", "needs conf="),
        ("rados://pool/a/b?conf=/c", "more than a pool and a namespace"),
        ("rados://pool?conf=/c#x", "more than a pool and a namespace"),
        ("rados://pool?conf=/c&conf=/d", "twice"),
        ("rados://pool?conf=/c&colour=red", "unknown option 'colour'"),
        ("rados://pool?conf=/c&name=admin", "client.NAME"),
        ("rados://pool?nonsense", "malformed"),
    ],
)
def test_wrong_urls(url: str, complaint: str) -> None:
    with pytest.raises(UrlError, match=complaint):
        parse_object_url(url)
