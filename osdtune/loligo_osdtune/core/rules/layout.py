"""Where an OSD keeps its data, its RocksDB (block.db) and its write-ahead log (WAL), and in which units it allocates.

RocksDB and WAL of an OSD that is there can be moved, while it is stopped; only the unit is decided when it is made.
"""

from loligo_osdtune.core.devices import SLOW_COMMIT_S, commit_s, commit_with_db_s, db_devices_of, devices_of
from loligo_osdtune.core.facts import Facts, Osd
from loligo_osdtune.core.rule import HDD, SSD, Change, OsdRule, Refusal, Verdict
from loligo_runtime.sizes import format_size

GIB = 1 << 30
DB_LEAST_PERCENT = 1
DB_MIXED_PERCENT = 4
WAL_MOST_BYTES = 10 * GIB
#: Means since each OSD started, unless the facts were gathered with --for; each had a load of its own.
_UNCERTAIN = (
    "that contradicts what a block.db brings, so it is uncertain; 'osdtune observe --for 10m --json' under "
    "load, then 'osdtune plan --facts', looks at the same time for all"
)
_REBUILD = "it is decided when an OSD is made: drain it, destroy it and make it anew, one after another"
_VOLUME = "ceph-volume lvm {} --osd-id ID --osd-fsid FSID"
_CEPHADM = (
    "with cephadm it is stopped by 'ceph orch daemon stop osd.ID', and the commands are given within 'cephadm shell --name "
    "osd.ID'. 'ceph-volume lvm list' tells FSID"
)


def _moved(commands: str, below: str) -> str:
    """How RocksDB goes elsewhere; `below`: the same without LVM."""
    return (
        f"no rebuild and no drain, since Pacific: 'ceph osd set noout', stop the OSD, {commands}, start it, 'ceph osd unset "
        f"noout', then the next one; {_CEPHADM}. Without LVM: ceph-bluestore-tool {below}"
    )


_MIGRATE = _VOLUME.format("migrate")
_NEW_DB = _moved(
    f"'{_VOLUME.format('new-db')} --target VG/LV', then '{_MIGRATE} --from data --target VG/LV' for what is on the disk "
    "already",
    "bluefs-bdev-new-db, bluefs-bdev-migrate",
)
_OTHER_DB = _moved(
    f"'{_MIGRATE} --from db --target VG/LV' with a new volume on an SSD (or the OSD's own main volume, to have none)",
    "bluefs-bdev-migrate",
)
_LARGER_DB = _moved(
    f"'{_MIGRATE} --from data db --target VG/LV' with a new, larger volume; or 'lvextend' the one that is there, "
    f"'ceph-bluestore-tool bluefs-bdev-expand --path /var/lib/ceph/osd/ceph-ID', then '{_MIGRATE} --from data --target "
    "VG/LV'",
    "bluefs-bdev-expand, bluefs-bdev-migrate",
)
_OTHER_WAL = _moved(
    f"'{_MIGRATE} --from db wal --target VG/LV' with a new volume for both, or '--from wal' for a smaller WAL",
    "bluefs-bdev-migrate",
)


def _db_missing(facts: Facts, osd: Osd) -> Verdict:
    if osd.has_db or osd.object_store != "bluestore" or not osd.size_bytes:
        return None
    commit = commit_s(osd)
    if any(device.is_virtual for device in devices_of(facts, osd)):
        if commit is None:
            return Refusal("its device is virtual, and too little was written to see whether there is a disk under it")
        if commit < SLOW_COMMIT_S:
            return Refusal(
                f"it is marked as a disk, but is virtual and commits in less than {SLOW_COMMIT_S * 1e3:.0f} ms, as no disk "
                "does: an SSD for its block.db would bring nothing"
            )
    note = f"a commit takes {commit * 1e3:.1f} ms" if commit is not None else ""
    with_db = commit_with_db_s(facts, osd.device_class)
    if commit is not None and with_db is not None:
        note += f", of those of its class with a block.db {with_db * 1e3:.1f} ms: "
        note += f"{commit / with_db:.1f} times less" if with_db < commit else _UNCERTAIN
    low, high = (format_size(osd.size_bytes * percent // 100) for percent in (DB_LEAST_PERCENT, DB_MIXED_PERCENT))
    proposed = f"block.db of {low} to {high} on an SSD with power-loss protection"
    return Change("RocksDB and WAL on the disk itself", "", proposed, note)


def _db_small(facts: Facts, osd: Osd) -> Verdict:
    if not osd.has_db or not osd.db_size_bytes or osd.db_size_bytes * 100 >= osd.size_bytes * DB_LEAST_PERCENT:
        return None
    least = format_size(osd.size_bytes * DB_LEAST_PERCENT // 100)
    return Change(format_size(osd.db_size_bytes), "", f"at least {least} ({DB_LEAST_PERCENT} % of the disk)")


def _wal_large(facts: Facts, osd: Osd) -> Verdict:
    if not osd.has_wal or osd.wal_size_bytes <= WAL_MOST_BYTES:
        return None
    together = format_size(osd.wal_size_bytes + osd.db_size_bytes)
    if osd.has_db and osd.wal_devices and osd.wal_devices == osd.db_devices:
        proposed = f"no WAL device, one block.db of {together}: the WAL is in it by itself"
    else:
        proposed = f"a WAL of {format_size(WAL_MOST_BYTES)}"
    return Change(format_size(osd.wal_size_bytes), "", proposed)


def _db_on_disk(facts: Facts, osd: Osd) -> Verdict:
    if not osd.has_db or not osd.is_db_rotational:
        return None
    where = ", ".join(osd.db_devices) or "a disk"
    commit = commit_s(osd)
    if commit is not None and commit < SLOW_COMMIT_S:
        return Refusal(
            f"its block.db is on {where}, which is marked as rotational, but it commits in less than "
            f"{SLOW_COMMIT_S * 1e3:.0f} ms, as no disk does"
        )
    if commit is None and any(device.is_virtual for device in db_devices_of(facts, osd)):
        return Refusal(
            f"its block.db is on {where}, which is virtual, and too little was written to see whether there is a disk under it"
        )
    note = f"a commit takes {commit * 1e3:.1f} ms" if commit is not None else ""
    return Change(f"block.db on {where}, which is rotational", "", "block.db on an SSD, or none", note)


def _spillover(facts: Facts, osd: Osd) -> Verdict:
    if osd.counters is None or not osd.has_db or not osd.counters.slow_used_bytes:
        return None
    spilled, used = (format_size(value) for value in (osd.counters.slow_used_bytes, osd.counters.db_used_bytes))
    return Change(
        "a part of RocksDB on the disk",
        "",
        "all of it on the SSD (larger block.db, then migrate)",
        f"{spilled} on the disk, {used} on the SSD",
    )


def _min_alloc(facts: Facts, osd: Osd) -> Verdict:
    if osd.min_alloc_bytes is None:
        return Refusal("it does not tell with which min_alloc_size it was made; OSDs of before Pacific may have 64 KiB")
    return Change(format_size(osd.min_alloc_bytes), "", "4 KiB") if osd.min_alloc_bytes > 4096 else None


LAYOUT_RULES = (
    OsdRule(
        rule="db-missing",
        classes=(HDD,),
        setting="block.db",
        reads=("size", "layout", "commits"),
        recommended="1 % to 4 % of the disk",
        reason="a small synchronous write is acknowledged when RocksDB's log has it: on an SSD that is a flush, on the "
        "disk a seek, which then competes with reads",
        source="Ceph documentation, BlueStore configuration: sizing; ceph-volume: lvm new-db, lvm migrate",
        weight=100,
        risk="low",
        needs_restart=True,
        by_hand=_NEW_DB,
        judge=_db_missing,
    ),
    OsdRule(
        rule="db-on-disk",
        setting="block.db",
        reads=("layout", "commits"),
        recommended="an SSD",
        reason="a block.db on a rotational device costs the seeks it was meant to spare",
        source="Ceph documentation, BlueStore configuration: devices; ceph-volume: lvm migrate",
        weight=90,
        risk="low",
        needs_restart=True,
        by_hand=_OTHER_DB,
        judge=_db_on_disk,
    ),
    OsdRule(
        rule="db-small",
        classes=(HDD,),
        setting="block.db",
        reads=("size", "layout"),
        recommended="1 %",
        reason="RocksDB that outgrows its device goes to the disk, and lookups with it",
        source="Ceph documentation, BlueStore configuration: sizing; ceph-volume: lvm migrate",
        weight=55,
        risk="low",
        needs_restart=True,
        by_hand=_LARGER_DB,
        judge=_db_small,
    ),
    OsdRule(
        rule="db-spillover",
        setting="block.db",
        reads=("counters", "layout"),
        recommended="0 bytes on the disk",
        reason="what of RocksDB is on the disk is read and compacted at the disk's speed",
        source="Ceph documentation, health checks: BLUEFS_SPILLOVER; ceph-volume: lvm migrate",
        weight=80,
        risk="low",
        needs_restart=True,
        by_hand=_LARGER_DB,
        judge=_spillover,
    ),
    OsdRule(
        rule="wal-large",
        setting="WAL device",
        reads=("layout",),
        recommended="10 GiB",
        reason="RocksDB limits its log to about 1 GiB, so most of this device is never written; as block.db it would be used",
        source="Ceph's default bluestore_rocksdb_options (max_total_wal_size=1G); Red Hat Ceph Storage: 10 GB at most; "
        "ceph-volume: lvm migrate",
        weight=40,
        risk="low",
        needs_restart=True,
        by_hand=_OTHER_WAL,
        judge=_wal_large,
    ),
    OsdRule(
        rule="min-alloc-hdd",
        classes=(HDD,),
        setting="bluestore_min_alloc_size_hdd",
        reads=("allocation",),
        recommended="4 KiB",
        reason="each object and each EC shard takes whole units; after an upgrade OSDs with 64 KiB also stop deferring "
        "small writes to the SSD in some releases of Pacific and Quincy (tracker 56488)",
        source="Ceph's default since Pacific; tracker 56488",
        weight=60,
        risk="rebuilds the OSD",
        needs_restart=True,
        creation_only=True,
        by_hand=_REBUILD,
        judge=_min_alloc,
    ),
    OsdRule(
        rule="min-alloc-ssd",
        classes=(SSD,),
        setting="bluestore_min_alloc_size_ssd",
        reads=("allocation",),
        recommended="4 KiB",
        reason="each object and each EC shard takes whole units; larger ones suit only SSDs with a coarse mapping",
        source="Ceph's default since Octopus",
        weight=35,
        risk="rebuilds the OSD",
        needs_restart=True,
        creation_only=True,
        by_hand=_REBUILD,
        judge=_min_alloc,
    ),
)
