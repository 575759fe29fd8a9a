"""URLs of object stores: the one place that knows which adapter a URL means.

    file:///srv/loligo/data
    rados://POOL[/NAMESPACE]?conf=/etc/ceph/ceph.conf[&name=client.admin]

Paths are absolute, because a mount leaves the folder it was started in. Characters that have a
meaning in URLs are percent-encoded.
"""

import os
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes, urlencode, urlsplit

from loligo_runtime.local_objects import LocalObjectStore
from loligo_runtime.object_store import ObjectStore, UrlError

_FILE_FORM = "file:///absolute/folder"
_RADOS_FORM = "rados://POOL[/NAMESPACE]?conf=/absolute/ceph.conf[&name=client.NAME]"


@dataclass(frozen=True, slots=True)
class FileUrl:
    directory: bytes


@dataclass(frozen=True, slots=True)
class RadosUrl:
    pool: str
    namespace: str
    conf: str
    name: str


def parse_object_url(url: str) -> FileUrl | RadosUrl:
    """What `url` means; UrlError if it is malformed."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UrlError(f"{url!r} is not a URL ({error}); {_right_forms()}") from None
    if parts.scheme == "file":
        directory = unquote_to_bytes(parts.path)
        if parts.netloc or parts.query or parts.fragment or not os.path.isabs(directory):
            raise UrlError(f"{url!r} names no local folder; a right URL looks like {_FILE_FORM}")
        if b"\0" in directory:
            raise UrlError(f"{url!r} has a zero byte in its path")
        return FileUrl(directory)
    if parts.scheme == "rados":
        return _parse_rados(url, parts.netloc, parts.path, parts.query, parts.fragment)
    raise UrlError(f"{url!r} names no object store; {_right_forms()}")


def _parse_rados(url: str, netloc: str, path: str, query: str, fragment: str) -> RadosUrl:
    def wrong(what: str) -> UrlError:
        return UrlError(f"{url!r} {what}; a right URL looks like {_RADOS_FORM}")

    pool = unquote(netloc)
    namespace = unquote(path.removeprefix("/"))
    if not pool:
        raise wrong("names no pool")
    if "/" in namespace or fragment:
        raise wrong("has more than a pool and a namespace")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise wrong("has a malformed part after '?'") from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise wrong("says the same thing twice")
    for option in options:
        if option not in ("conf", "name"):
            raise wrong(f"has the unknown option {option!r}")
    conf = options.get("conf", "")
    if not os.path.isabs(conf):
        raise wrong("needs conf=, the absolute path of the cluster's ceph.conf")
    name = options.get("name", "client.admin")
    if not name.startswith("client.") or name == "client.":
        raise wrong(f"has the client name {name!r}, which is not of the form client.NAME")
    return RadosUrl(pool, namespace, conf, name)


def format_rados_url(parsed: RadosUrl) -> str:
    """The URL that means this."""
    namespace = f"/{quote(parsed.namespace, safe='')}" if parsed.namespace else ""
    return f"rados://{quote(parsed.pool, safe='')}{namespace}?{urlencode({'conf': parsed.conf, 'name': parsed.name})}"


def _right_forms() -> str:
    return f"a right one looks like {_FILE_FORM} or {_RADOS_FORM}"


def open_object_store(url: str, *, create: bool) -> ObjectStore:
    """Open the store that `url` names; `create` makes the folder of a local one first.

    Raises ObjectStoreError (UrlError, StoreMissingError, StoreUnreachableError), and OSError if a
    local folder cannot be used. A RADOS pool is never made here: its placement is the
    administrator's choice.
    """
    parsed = parse_object_url(url)
    if isinstance(parsed, FileUrl):
        return LocalObjectStore(parsed.directory, create=create)
    # Only who uses RADOS needs its library.
    from loligo_runtime.rados_objects import RadosObjectStore

    return RadosObjectStore(pool=parsed.pool, namespace=parsed.namespace, conf=parsed.conf, name=parsed.name)
