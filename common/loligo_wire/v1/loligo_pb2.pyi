from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "version", "volume", "root_path", "read_only", "host", "mounted_on", "session", "secret", "takes_leases")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    ROOT_PATH_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MOUNTED_ON_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    TAKES_LEASES_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    version: str
    volume: str
    root_path: bytes
    read_only: bool
    host: str
    mounted_on: str
    session: int
    secret: bytes
    takes_leases: bool
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., version: _Optional[str] = ..., volume: _Optional[str] = ..., root_path: _Optional[bytes] = ..., read_only: _Optional[bool] = ..., host: _Optional[str] = ..., mounted_on: _Optional[str] = ..., session: _Optional[int] = ..., secret: _Optional[bytes] = ..., takes_leases: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "version", "session", "secret", "resumed", "root_ino", "root_record", "volume_uuid", "volume_name", "data_url", "block_bytes", "inline_limit_bytes", "heartbeat_ms", "expiry_ms", "window", "lease_ms")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    ROOT_INO_FIELD_NUMBER: _ClassVar[int]
    ROOT_RECORD_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_URL_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_FIELD_NUMBER: _ClassVar[int]
    INLINE_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_MS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    version: str
    session: int
    secret: bytes
    resumed: bool
    root_ino: int
    root_record: bytes
    volume_uuid: str
    volume_name: str
    data_url: str
    block_bytes: int
    inline_limit_bytes: int
    heartbeat_ms: int
    expiry_ms: int
    window: int
    lease_ms: int
    def __init__(self, protocol: _Optional[int] = ..., version: _Optional[str] = ..., session: _Optional[int] = ..., secret: _Optional[bytes] = ..., resumed: _Optional[bool] = ..., root_ino: _Optional[int] = ..., root_record: _Optional[bytes] = ..., volume_uuid: _Optional[str] = ..., volume_name: _Optional[str] = ..., data_url: _Optional[str] = ..., block_bytes: _Optional[int] = ..., inline_limit_bytes: _Optional[int] = ..., heartbeat_ms: _Optional[int] = ..., expiry_ms: _Optional[int] = ..., window: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "text")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OTHER: _ClassVar[Refusal.Reason]
        PROTOCOL: _ClassVar[Refusal.Reason]
        NO_SUCH_VOLUME: _ClassVar[Refusal.Reason]
        NO_SUCH_DIRECTORY: _ClassVar[Refusal.Reason]
        SESSION_GONE: _ClassVar[Refusal.Reason]
        NOT_ALLOWED: _ClassVar[Refusal.Reason]
        BUSY: _ClassVar[Refusal.Reason]
    OTHER: Refusal.Reason
    PROTOCOL: Refusal.Reason
    NO_SUCH_VOLUME: Refusal.Reason
    NO_SUCH_DIRECTORY: Refusal.Reason
    SESSION_GONE: Refusal.Reason
    NOT_ALLOWED: Refusal.Reason
    BUSY: Refusal.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    reason: Refusal.Reason
    text: str
    def __init__(self, reason: _Optional[_Union[Refusal.Reason, str]] = ..., text: _Optional[str] = ...) -> None: ...

class ClientFrame(_message.Message):
    __slots__ = ("hello", "holds", "holds_first", "holds_complete", "requests", "acknowledged", "fence", "goodbye", "locks", "delegations")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIRST_FIELD_NUMBER: _ClassVar[int]
    HOLDS_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    DELEGATIONS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    holds: _containers.RepeatedCompositeFieldContainer[Hold]
    holds_first: bool
    holds_complete: bool
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    acknowledged: int
    fence: Fence
    goodbye: bool
    locks: _containers.RepeatedCompositeFieldContainer[HeldLock]
    delegations: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., holds: _Optional[_Iterable[_Union[Hold, _Mapping]]] = ..., holds_first: _Optional[bool] = ..., holds_complete: _Optional[bool] = ..., requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ..., acknowledged: _Optional[int] = ..., fence: _Optional[_Union[Fence, _Mapping]] = ..., goodbye: _Optional[bool] = ..., locks: _Optional[_Iterable[_Union[HeldLock, _Mapping]]] = ..., delegations: _Optional[_Iterable[int]] = ...) -> None: ...

class ServerFrame(_message.Message):
    __slots__ = ("welcome", "refusal", "answers", "notices")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    refusal: Refusal
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("ino", "count", "writes", "contended", "claimed", "quiet")
    INO_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    CONTENDED_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    QUIET_FIELD_NUMBER: _ClassVar[int]
    ino: int
    count: int
    writes: bool
    contended: bool
    claimed: bool
    quiet: bool
    def __init__(self, ino: _Optional[int] = ..., count: _Optional[int] = ..., writes: _Optional[bool] = ..., contended: _Optional[bool] = ..., claimed: _Optional[bool] = ..., quiet: _Optional[bool] = ...) -> None: ...

class HeldLock(_message.Message):
    __slots__ = ("ino", "owner", "start", "end", "exclusive", "whole", "pid")
    INO_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ino: int
    owner: int
    start: int
    end: int
    exclusive: bool
    whole: bool
    pid: int
    def __init__(self, ino: _Optional[int] = ..., owner: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., exclusive: _Optional[bool] = ..., whole: _Optional[bool] = ..., pid: _Optional[int] = ...) -> None: ...

class Fence(_message.Message):
    __slots__ = ("addresses",)
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("recall", "resume", "report", "lease")
    RECALL_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    recall: int
    resume: Resume
    report: int
    lease: LeaseRecall
    def __init__(self, recall: _Optional[int] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., report: _Optional[int] = ..., lease: _Optional[_Union[LeaseRecall, _Mapping]] = ...) -> None: ...

class LeaseRecall(_message.Message):
    __slots__ = ("ino", "attributes_of", "share")
    INO_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_OF_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    ino: int
    attributes_of: int
    share: bool
    def __init__(self, ino: _Optional[int] = ..., attributes_of: _Optional[int] = ..., share: _Optional[bool] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("ino", "record")
    INO_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    ino: int
    record: bytes
    def __init__(self, ino: _Optional[int] = ..., record: _Optional[bytes] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("id", "sequence", "promised_ns", "lookup", "get_attributes", "set_attributes", "record_access", "create", "create_unnamed", "unlink", "remove_directory", "rename", "link", "read_link", "read_directory", "get_xattr", "list_xattrs", "set_xattr", "remove_xattr", "open", "close", "claim", "release", "yielded", "read_inline", "unsettle", "publish", "settle", "get_usage", "sync", "reported", "set_lock", "get_lock", "cancel_lock", "lease_returned", "reserve_inodes", "remove_tree", "list_batches", "list_places", "read_trash", "look_in_trash", "fill_in", "restore", "purge_batch", "list_removed")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PROMISED_NS_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    GET_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SET_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    RECORD_ACCESS_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_UNNAMED_FIELD_NUMBER: _ClassVar[int]
    UNLINK_FIELD_NUMBER: _ClassVar[int]
    REMOVE_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    READ_LINK_FIELD_NUMBER: _ClassVar[int]
    READ_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    GET_XATTR_FIELD_NUMBER: _ClassVar[int]
    LIST_XATTRS_FIELD_NUMBER: _ClassVar[int]
    SET_XATTR_FIELD_NUMBER: _ClassVar[int]
    REMOVE_XATTR_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    YIELDED_FIELD_NUMBER: _ClassVar[int]
    READ_INLINE_FIELD_NUMBER: _ClassVar[int]
    UNSETTLE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    GET_USAGE_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    SET_LOCK_FIELD_NUMBER: _ClassVar[int]
    GET_LOCK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_LOCK_FIELD_NUMBER: _ClassVar[int]
    LEASE_RETURNED_FIELD_NUMBER: _ClassVar[int]
    RESERVE_INODES_FIELD_NUMBER: _ClassVar[int]
    REMOVE_TREE_FIELD_NUMBER: _ClassVar[int]
    LIST_BATCHES_FIELD_NUMBER: _ClassVar[int]
    LIST_PLACES_FIELD_NUMBER: _ClassVar[int]
    READ_TRASH_FIELD_NUMBER: _ClassVar[int]
    LOOK_IN_TRASH_FIELD_NUMBER: _ClassVar[int]
    FILL_IN_FIELD_NUMBER: _ClassVar[int]
    RESTORE_FIELD_NUMBER: _ClassVar[int]
    PURGE_BATCH_FIELD_NUMBER: _ClassVar[int]
    LIST_REMOVED_FIELD_NUMBER: _ClassVar[int]
    id: int
    sequence: int
    promised_ns: int
    lookup: Lookup
    get_attributes: GetAttributes
    set_attributes: SetAttributes
    record_access: RecordAccess
    create: Create
    create_unnamed: CreateUnnamed
    unlink: Unlink
    remove_directory: RemoveDirectory
    rename: Rename
    link: Link
    read_link: ReadLink
    read_directory: ReadDirectory
    get_xattr: GetXattr
    list_xattrs: ListXattrs
    set_xattr: SetXattr
    remove_xattr: RemoveXattr
    open: Open
    close: Close
    claim: Claim
    release: Release
    yielded: Yielded
    read_inline: ReadInline
    unsettle: Unsettle
    publish: Publish
    settle: Settle
    get_usage: GetUsage
    sync: Sync
    reported: Reported
    set_lock: SetLock
    get_lock: GetLock
    cancel_lock: CancelLock
    lease_returned: LeaseReturned
    reserve_inodes: ReserveInodes
    remove_tree: RemoveTree
    list_batches: ListBatches
    list_places: ListPlaces
    read_trash: ReadTrash
    look_in_trash: LookInTrash
    fill_in: FillIn
    restore: Restore
    purge_batch: PurgeBatch
    list_removed: ListRemoved
    def __init__(self, id: _Optional[int] = ..., sequence: _Optional[int] = ..., promised_ns: _Optional[int] = ..., lookup: _Optional[_Union[Lookup, _Mapping]] = ..., get_attributes: _Optional[_Union[GetAttributes, _Mapping]] = ..., set_attributes: _Optional[_Union[SetAttributes, _Mapping]] = ..., record_access: _Optional[_Union[RecordAccess, _Mapping]] = ..., create: _Optional[_Union[Create, _Mapping]] = ..., create_unnamed: _Optional[_Union[CreateUnnamed, _Mapping]] = ..., unlink: _Optional[_Union[Unlink, _Mapping]] = ..., remove_directory: _Optional[_Union[RemoveDirectory, _Mapping]] = ..., rename: _Optional[_Union[Rename, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., read_link: _Optional[_Union[ReadLink, _Mapping]] = ..., read_directory: _Optional[_Union[ReadDirectory, _Mapping]] = ..., get_xattr: _Optional[_Union[GetXattr, _Mapping]] = ..., list_xattrs: _Optional[_Union[ListXattrs, _Mapping]] = ..., set_xattr: _Optional[_Union[SetXattr, _Mapping]] = ..., remove_xattr: _Optional[_Union[RemoveXattr, _Mapping]] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ..., claim: _Optional[_Union[Claim, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., yielded: _Optional[_Union[Yielded, _Mapping]] = ..., read_inline: _Optional[_Union[ReadInline, _Mapping]] = ..., unsettle: _Optional[_Union[Unsettle, _Mapping]] = ..., publish: _Optional[_Union[Publish, _Mapping]] = ..., settle: _Optional[_Union[Settle, _Mapping]] = ..., get_usage: _Optional[_Union[GetUsage, _Mapping]] = ..., sync: _Optional[_Union[Sync, _Mapping]] = ..., reported: _Optional[_Union[Reported, _Mapping]] = ..., set_lock: _Optional[_Union[SetLock, _Mapping]] = ..., get_lock: _Optional[_Union[GetLock, _Mapping]] = ..., cancel_lock: _Optional[_Union[CancelLock, _Mapping]] = ..., lease_returned: _Optional[_Union[LeaseReturned, _Mapping]] = ..., reserve_inodes: _Optional[_Union[ReserveInodes, _Mapping]] = ..., remove_tree: _Optional[_Union[RemoveTree, _Mapping]] = ..., list_batches: _Optional[_Union[ListBatches, _Mapping]] = ..., list_places: _Optional[_Union[ListPlaces, _Mapping]] = ..., read_trash: _Optional[_Union[ReadTrash, _Mapping]] = ..., look_in_trash: _Optional[_Union[LookInTrash, _Mapping]] = ..., fill_in: _Optional[_Union[FillIn, _Mapping]] = ..., restore: _Optional[_Union[Restore, _Mapping]] = ..., purge_batch: _Optional[_Union[PurgeBatch, _Mapping]] = ..., list_removed: _Optional[_Union[ListRemoved, _Mapping]] = ...) -> None: ...

class Lookup(_message.Message):
    __slots__ = ("parent", "name")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class GetAttributes(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class SetAttributes(_message.Message):
    __slots__ = ("ino", "mode", "uid", "gid", "size", "atime_ns", "mtime_ns", "drop_privileges")
    INO_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    DROP_PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    ino: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    drop_privileges: bool
    def __init__(self, ino: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., drop_privileges: _Optional[bool] = ...) -> None: ...

class RecordAccess(_message.Message):
    __slots__ = ("ino", "atime_ns")
    INO_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    ino: int
    atime_ns: int
    def __init__(self, ino: _Optional[int] = ..., atime_ns: _Optional[int] = ...) -> None: ...

class Create(_message.Message):
    __slots__ = ("parent", "name", "mode", "uid", "gid", "umask", "rdev", "target", "hold", "new_ino", "became", "inline", "unsettled_end")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    UMASK_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    NEW_INO_FIELD_NUMBER: _ClassVar[int]
    BECAME_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    UNSETTLED_END_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    umask: int
    rdev: int
    target: bytes
    hold: bool
    new_ino: int
    became: bytes
    inline: bytes
    unsettled_end: int
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., umask: _Optional[int] = ..., rdev: _Optional[int] = ..., target: _Optional[bytes] = ..., hold: _Optional[bool] = ..., new_ino: _Optional[int] = ..., became: _Optional[bytes] = ..., inline: _Optional[bytes] = ..., unsettled_end: _Optional[int] = ...) -> None: ...

class CreateUnnamed(_message.Message):
    __slots__ = ("parent", "mode", "uid", "gid", "umask")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    UMASK_FIELD_NUMBER: _ClassVar[int]
    parent: int
    mode: int
    uid: int
    gid: int
    umask: int
    def __init__(self, parent: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., umask: _Optional[int] = ...) -> None: ...

class Unlink(_message.Message):
    __slots__ = ("parent", "name", "uid", "pid")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    uid: int
    pid: int
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., uid: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class RemoveDirectory(_message.Message):
    __slots__ = ("parent", "name", "uid", "pid")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    uid: int
    pid: int
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., uid: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class RemoveTree(_message.Message):
    __slots__ = ("parent", "name", "uid", "pid", "label")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    uid: int
    pid: int
    label: bytes
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., uid: _Optional[int] = ..., pid: _Optional[int] = ..., label: _Optional[bytes] = ...) -> None: ...

class Rename(_message.Message):
    __slots__ = ("parent", "name", "new_parent", "new_name", "flags", "uid", "pid")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_PARENT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    flags: int
    uid: int
    pid: int
    def __init__(self, parent: _Optional[int] = ..., name: _Optional[bytes] = ..., new_parent: _Optional[int] = ..., new_name: _Optional[bytes] = ..., flags: _Optional[int] = ..., uid: _Optional[int] = ..., pid: _Optional[int] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("ino", "new_parent", "new_name")
    INO_FIELD_NUMBER: _ClassVar[int]
    NEW_PARENT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    ino: int
    new_parent: int
    new_name: bytes
    def __init__(self, ino: _Optional[int] = ..., new_parent: _Optional[int] = ..., new_name: _Optional[bytes] = ...) -> None: ...

class ReadLink(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class ReadDirectory(_message.Message):
    __slots__ = ("ino", "after_cookie", "count", "with_attributes")
    INO_FIELD_NUMBER: _ClassVar[int]
    AFTER_COOKIE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WITH_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ino: int
    after_cookie: int
    count: int
    with_attributes: bool
    def __init__(self, ino: _Optional[int] = ..., after_cookie: _Optional[int] = ..., count: _Optional[int] = ..., with_attributes: _Optional[bool] = ...) -> None: ...

class GetXattr(_message.Message):
    __slots__ = ("ino", "name")
    INO_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ino: int
    name: bytes
    def __init__(self, ino: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class ListXattrs(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class SetXattr(_message.Message):
    __slots__ = ("ino", "name", "value", "flags", "kill_sgid")
    INO_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    KILL_SGID_FIELD_NUMBER: _ClassVar[int]
    ino: int
    name: bytes
    value: bytes
    flags: int
    kill_sgid: bool
    def __init__(self, ino: _Optional[int] = ..., name: _Optional[bytes] = ..., value: _Optional[bytes] = ..., flags: _Optional[int] = ..., kill_sgid: _Optional[bool] = ...) -> None: ...

class RemoveXattr(_message.Message):
    __slots__ = ("ino", "name")
    INO_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ino: int
    name: bytes
    def __init__(self, ino: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("ino", "writes")
    INO_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    ino: int
    writes: bool
    def __init__(self, ino: _Optional[int] = ..., writes: _Optional[bool] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("ino", "count")
    INO_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ino: int
    count: int
    def __init__(self, ino: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class Yielded(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class Reported(_message.Message):
    __slots__ = ("ino", "size", "mtime_ns")
    INO_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    ino: int
    size: int
    mtime_ns: int
    def __init__(self, ino: _Optional[int] = ..., size: _Optional[int] = ..., mtime_ns: _Optional[int] = ...) -> None: ...

class LeaseReturned(_message.Message):
    __slots__ = ("ino", "attributes_of", "kept", "was_exclusive", "again", "open")
    INO_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_OF_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    WAS_EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ino: int
    attributes_of: int
    kept: bool
    was_exclusive: bool
    again: bool
    open: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ino: _Optional[int] = ..., attributes_of: _Optional[int] = ..., kept: _Optional[bool] = ..., was_exclusive: _Optional[bool] = ..., again: _Optional[bool] = ..., open: _Optional[_Iterable[int]] = ...) -> None: ...

class ReserveInodes(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class ListBatches(_message.Message):
    __slots__ = ("after", "count", "uid", "below")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    after: int
    count: int
    uid: int
    below: int
    def __init__(self, after: _Optional[int] = ..., count: _Optional[int] = ..., uid: _Optional[int] = ..., below: _Optional[int] = ...) -> None: ...

class ListRemoved(_message.Message):
    __slots__ = ("after", "count", "uid", "below")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    BELOW_FIELD_NUMBER: _ClassVar[int]
    after: int
    count: int
    uid: int
    below: int
    def __init__(self, after: _Optional[int] = ..., count: _Optional[int] = ..., uid: _Optional[int] = ..., below: _Optional[int] = ...) -> None: ...

class ListPlaces(_message.Message):
    __slots__ = ("batch", "after", "count")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    batch: int
    after: int
    count: int
    def __init__(self, batch: _Optional[int] = ..., after: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ReadTrash(_message.Message):
    __slots__ = ("batch", "directory", "after_cookie", "count")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    AFTER_COOKIE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    batch: int
    directory: int
    after_cookie: int
    count: int
    def __init__(self, batch: _Optional[int] = ..., directory: _Optional[int] = ..., after_cookie: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class LookInTrash(_message.Message):
    __slots__ = ("batch", "directory", "name")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    batch: int
    directory: int
    name: bytes
    def __init__(self, batch: _Optional[int] = ..., directory: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class FillIn(_message.Message):
    __slots__ = ("batch", "ino")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    batch: int
    ino: int
    def __init__(self, batch: _Optional[int] = ..., ino: _Optional[int] = ...) -> None: ...

class Restore(_message.Message):
    __slots__ = ("batch", "directory", "name", "new_parent", "new_name")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_PARENT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    batch: int
    directory: int
    name: bytes
    new_parent: int
    new_name: bytes
    def __init__(self, batch: _Optional[int] = ..., directory: _Optional[int] = ..., name: _Optional[bytes] = ..., new_parent: _Optional[int] = ..., new_name: _Optional[bytes] = ...) -> None: ...

class PurgeBatch(_message.Message):
    __slots__ = ("batch", "word", "rate")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    batch: int
    word: int
    rate: int
    def __init__(self, batch: _Optional[int] = ..., word: _Optional[int] = ..., rate: _Optional[int] = ...) -> None: ...

class SetLock(_message.Message):
    __slots__ = ("ino", "owner", "start", "end", "exclusive", "unlock", "whole", "waits", "pid", "wait")
    INO_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    UNLOCK_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    ino: int
    owner: int
    start: int
    end: int
    exclusive: bool
    unlock: bool
    whole: bool
    waits: bool
    pid: int
    wait: int
    def __init__(self, ino: _Optional[int] = ..., owner: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., exclusive: _Optional[bool] = ..., unlock: _Optional[bool] = ..., whole: _Optional[bool] = ..., waits: _Optional[bool] = ..., pid: _Optional[int] = ..., wait: _Optional[int] = ...) -> None: ...

class GetLock(_message.Message):
    __slots__ = ("ino", "owner", "start", "end", "exclusive", "pid")
    INO_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    ino: int
    owner: int
    start: int
    end: int
    exclusive: bool
    pid: int
    def __init__(self, ino: _Optional[int] = ..., owner: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., exclusive: _Optional[bool] = ..., pid: _Optional[int] = ...) -> None: ...

class CancelLock(_message.Message):
    __slots__ = ("ino", "wait")
    INO_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    ino: int
    wait: int
    def __init__(self, ino: _Optional[int] = ..., wait: _Optional[int] = ...) -> None: ...

class ReadInline(_message.Message):
    __slots__ = ("ino",)
    INO_FIELD_NUMBER: _ClassVar[int]
    ino: int
    def __init__(self, ino: _Optional[int] = ...) -> None: ...

class Unsettle(_message.Message):
    __slots__ = ("ino", "end")
    INO_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ino: int
    end: int
    def __init__(self, ino: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Publish(_message.Message):
    __slots__ = ("ino", "size", "mtime_ns", "inline", "sparse")
    INO_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    ino: int
    size: int
    mtime_ns: int
    inline: bytes
    sparse: bool
    def __init__(self, ino: _Optional[int] = ..., size: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., inline: _Optional[bytes] = ..., sparse: _Optional[bool] = ...) -> None: ...

class Settle(_message.Message):
    __slots__ = ("inos",)
    INOS_FIELD_NUMBER: _ClassVar[int]
    inos: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inos: _Optional[_Iterable[int]] = ...) -> None: ...

class GetUsage(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Sync(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "errno", "inode", "data", "names", "listing", "opened", "usage", "lock", "reserved", "directories", "leases", "unsure", "forgets", "repeated", "delegations")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    LISTING_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    UNSURE_FIELD_NUMBER: _ClassVar[int]
    FORGETS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_FIELD_NUMBER: _ClassVar[int]
    DELEGATIONS_FIELD_NUMBER: _ClassVar[int]
    id: int
    errno: int
    inode: Inode
    data: bytes
    names: Names
    listing: Listing
    opened: Opened
    usage: Usage
    lock: Lock
    reserved: Reserved
    directories: _containers.RepeatedCompositeFieldContainer[Inode]
    leases: _containers.RepeatedScalarFieldContainer[int]
    unsure: bool
    forgets: _containers.RepeatedScalarFieldContainer[int]
    repeated: bool
    delegations: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, id: _Optional[int] = ..., errno: _Optional[int] = ..., inode: _Optional[_Union[Inode, _Mapping]] = ..., data: _Optional[bytes] = ..., names: _Optional[_Union[Names, _Mapping]] = ..., listing: _Optional[_Union[Listing, _Mapping]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., lock: _Optional[_Union[Lock, _Mapping]] = ..., reserved: _Optional[_Union[Reserved, _Mapping]] = ..., directories: _Optional[_Iterable[_Union[Inode, _Mapping]]] = ..., leases: _Optional[_Iterable[int]] = ..., unsure: _Optional[bool] = ..., forgets: _Optional[_Iterable[int]] = ..., repeated: _Optional[bool] = ..., delegations: _Optional[_Iterable[int]] = ...) -> None: ...

class Inode(_message.Message):
    __slots__ = ("ino", "record")
    INO_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    ino: int
    record: bytes
    def __init__(self, ino: _Optional[int] = ..., record: _Optional[bytes] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("inode", "contended", "inline")
    INODE_FIELD_NUMBER: _ClassVar[int]
    CONTENDED_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    inode: Inode
    contended: bool
    inline: bytes
    def __init__(self, inode: _Optional[_Union[Inode, _Mapping]] = ..., contended: _Optional[bool] = ..., inline: _Optional[bytes] = ...) -> None: ...

class Lock(_message.Message):
    __slots__ = ("owner", "start", "end", "exclusive", "pid")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    owner: int
    start: int
    end: int
    exclusive: bool
    pid: int
    def __init__(self, owner: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., exclusive: _Optional[bool] = ..., pid: _Optional[int] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, names: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("name", "cookie", "ino", "kind", "record")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    cookie: int
    ino: int
    kind: int
    record: bytes
    def __init__(self, name: _Optional[bytes] = ..., cookie: _Optional[int] = ..., ino: _Optional[int] = ..., kind: _Optional[int] = ..., record: _Optional[bytes] = ...) -> None: ...

class Listing(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("inodes", "size_bytes", "trash_inodes", "trash_bytes")
    INODES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRASH_INODES_FIELD_NUMBER: _ClassVar[int]
    TRASH_BYTES_FIELD_NUMBER: _ClassVar[int]
    inodes: int
    size_bytes: int
    trash_inodes: int
    trash_bytes: int
    def __init__(self, inodes: _Optional[int] = ..., size_bytes: _Optional[int] = ..., trash_inodes: _Optional[int] = ..., trash_bytes: _Optional[int] = ...) -> None: ...

class Reserved(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerStatus(_message.Message):
    __slots__ = ("version", "volume", "meta_url", "listen", "pid", "up_s", "sessions", "inodes", "size_bytes", "trash_inodes", "trash_bytes", "metrics", "lock_waits")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    META_URL_FIELD_NUMBER: _ClassVar[int]
    LISTEN_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    UP_S_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRASH_INODES_FIELD_NUMBER: _ClassVar[int]
    TRASH_BYTES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LOCK_WAITS_FIELD_NUMBER: _ClassVar[int]
    version: str
    volume: str
    meta_url: str
    listen: str
    pid: int
    up_s: float
    sessions: _containers.RepeatedCompositeFieldContainer[SessionStatus]
    inodes: int
    size_bytes: int
    trash_inodes: int
    trash_bytes: int
    metrics: str
    lock_waits: _containers.RepeatedCompositeFieldContainer[LockWait]
    def __init__(self, version: _Optional[str] = ..., volume: _Optional[str] = ..., meta_url: _Optional[str] = ..., listen: _Optional[str] = ..., pid: _Optional[int] = ..., up_s: _Optional[float] = ..., sessions: _Optional[_Iterable[_Union[SessionStatus, _Mapping]]] = ..., inodes: _Optional[int] = ..., size_bytes: _Optional[int] = ..., trash_inodes: _Optional[int] = ..., trash_bytes: _Optional[int] = ..., metrics: _Optional[str] = ..., lock_waits: _Optional[_Iterable[_Union[LockWait, _Mapping]]] = ...) -> None: ...

class SessionStatus(_message.Message):
    __slots__ = ("session", "host", "mounted_on", "connected", "silent_s", "root_path", "read_only", "open_files", "requests", "version", "peer", "identity", "leases", "recalls", "locks", "lock_waits")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MOUNTED_ON_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    SILENT_S_FIELD_NUMBER: _ClassVar[int]
    ROOT_PATH_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    OPEN_FILES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    LEASES_FIELD_NUMBER: _ClassVar[int]
    RECALLS_FIELD_NUMBER: _ClassVar[int]
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    LOCK_WAITS_FIELD_NUMBER: _ClassVar[int]
    session: int
    host: str
    mounted_on: str
    connected: bool
    silent_s: float
    root_path: bytes
    read_only: bool
    open_files: int
    requests: int
    version: str
    peer: str
    identity: str
    leases: int
    recalls: int
    locks: int
    lock_waits: int
    def __init__(self, session: _Optional[int] = ..., host: _Optional[str] = ..., mounted_on: _Optional[str] = ..., connected: _Optional[bool] = ..., silent_s: _Optional[float] = ..., root_path: _Optional[bytes] = ..., read_only: _Optional[bool] = ..., open_files: _Optional[int] = ..., requests: _Optional[int] = ..., version: _Optional[str] = ..., peer: _Optional[str] = ..., identity: _Optional[str] = ..., leases: _Optional[int] = ..., recalls: _Optional[int] = ..., locks: _Optional[int] = ..., lock_waits: _Optional[int] = ...) -> None: ...

class LockWait(_message.Message):
    __slots__ = ("session", "ino", "pid", "whole", "held_by")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    INO_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    HELD_BY_FIELD_NUMBER: _ClassVar[int]
    session: int
    ino: int
    pid: int
    whole: bool
    held_by: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[int] = ..., ino: _Optional[int] = ..., pid: _Optional[int] = ..., whole: _Optional[bool] = ..., held_by: _Optional[_Iterable[int]] = ...) -> None: ...

class EvictRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class EvictReply(_message.Message):
    __slots__ = ("problem",)
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    problem: str
    def __init__(self, problem: _Optional[str] = ...) -> None: ...
