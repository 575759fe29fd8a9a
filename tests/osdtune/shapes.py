"""Cluster shapes as facts: how OSDs of each release and layout describe themselves, in the fields that rules read.

`recorded/pacific-loopback.json` is what `osdtune observe --json` printed on the loopback cluster; the others are written
after the option tables and the OSD metadata of their release.
"""

from dataclasses import replace
from pathlib import Path

from loligo_osdtune.core.facts import Counters, CrushRule, Device, Facts, Host, Option, Osd, Pool
from loligo_osdtune.core.recording import decode

GIB = 1 << 30
TIB = 1 << 40
VERSIONS = {"pacific": "16.2.15", "quincy": "17.2.7", "reef": "18.2.4", "squid": "19.2.0"}

COUNTERS = Counters(
    db_total_bytes=160 * GIB,
    db_used_bytes=20 * GIB,
    wal_total_bytes=0,
    wal_used_bytes=0,
    slow_used_bytes=0,
    commits=1000,
    commit_sum_s=1.0,
    deferred_writes=500,
    deferred_bytes=8 << 20,
    throttle_waits=0,
    throttle_wait_sum_s=0.0,
    reads=100,
    read_bytes=1 << 20,
    writes=1000,
    written_bytes=16 << 20,
)


def defaults(release: str) -> tuple[Option, ...]:
    """Of the options that rules read, Ceph's own values."""
    mclock = release != "pacific"
    values = {
        "bluefs_buffered_io": "true",
        "bluestore_allocator": "hybrid",
        "bluestore_cache_autotune": "true",
        "bluestore_prefer_deferred_size_hdd": "65536",
        "bluestore_prefer_deferred_size_ssd": "0",
        "bluestore_rocksdb_options": "compression=kLZ4Compression",
        "bluestore_throttle_cost_per_io_hdd": "670000",
        "bluestore_throttle_cost_per_io_ssd": "4000",
        "osd_max_backfills": "1",
        "osd_memory_target": "4294967296",
        "osd_op_num_shards_hdd": "1" if mclock else "5",
        "osd_op_num_threads_per_shard_hdd": "5" if mclock else "1",
        "osd_op_queue": "mclock_scheduler" if mclock else "wpq",
        "osd_recovery_sleep_hdd": "0.1",
        "osd_scrub_during_recovery": "false",
    }
    if mclock:
        values |= {
            "osd_mclock_max_capacity_iops_hdd": "315.000000",
            "osd_mclock_max_capacity_iops_ssd": "21500.000000",
            "osd_mclock_override_recovery_settings": "false",
        }
    return tuple(Option(name, value, "default") for name, value in sorted(values.items()))


def disk(number: int, release: str, host: str = "a") -> Osd:
    """An HDD of 4 TiB, its block.db of 160 GiB on an NVMe."""
    return Osd(
        osd=number,
        host=host,
        device_class="hdd",
        crush_root="default",
        crush_host=host,
        crush_weight=3.63869,
        version=VERSIONS.get(release, "99.1.0"),
        release=release,
        is_up=True,
        is_in=True,
        object_store="bluestore",
        size_bytes=4 * TIB,
        is_rotational=True,
        is_db_rotational=False,
        has_db=True,
        has_wal=False,
        db_size_bytes=160 * GIB,
        wal_size_bytes=0,
        devices=("sdb",),
        db_devices=("nvme0n1",),
        wal_devices=(),
        min_alloc_bytes=4096,
        memory_bytes=64 * GIB,
        swap_bytes=0,
        pgs=100,
        used_percent=40.0,
        options=defaults(release),
        counters=COUNTERS,
    )


def flash(number: int, release: str, host: str = "a") -> Osd:
    """An NVMe with everything on it."""
    return replace(
        disk(number, release, host),
        device_class="ssd",
        is_rotational=False,
        is_db_rotational=None,
        has_db=False,
        db_size_bytes=0,
        devices=("nvme0n1",),
        db_devices=(),
    )


def host(name: str = "a") -> Host:
    return Host(
        host=name,
        kernel="6.1.0",
        cpus=16,
        memory_bytes=64 * GIB,
        swap_bytes=0,
        governor="performance",
        transparent_hugepages="madvise",
        sysctls=tuple(
            Option(sysctl, value, "kernel")
            for sysctl, value in (
                ("fs.aio-max-nr", "1048576"),
                ("kernel.pid_max", "4194304"),
                ("vm.min_free_kbytes", "4194303"),
                ("vm.swappiness", "10"),
                ("vm.zone_reclaim_mode", "0"),
            )
        ),
        devices=(
            Device("nvme0n1", False, False, "a fast one", "none", 128, 1023, "write through"),
            Device("sdb", True, False, "a slow one", "mq-deadline", 128, 256, "write through"),
        ),
    )


def pool(name: str, rule: str, pg_num: int = 128) -> Pool:
    return Pool(
        pool=name,
        pg_num=pg_num,
        size=3,
        min_size=2,
        is_erasure_coded=False,
        ec_profile="",
        has_overwrites=False,
        crush_rule=rule,
        autoscale_mode="on",
        is_bulk=False,
        target_size_ratio=0.0,
        is_tiered=False,
        stored_bytes=GIB,
        objects=300,
        applications=("loligo",),
    )


def crush_rule(name: str, device_class: str, domain: str = "host") -> CrushRule:
    return CrushRule(name, (device_class,), ("default",), (domain,), False)


def cluster(*osds: Osd, pools: tuple[Pool, ...] | None = None) -> Facts:
    return Facts(
        fsid="3f1c1b0e-0000-4000-8000-000000000000",
        health="HEALTH_OK",
        checks=(),
        osds=osds,
        pools=(pool("data", "hdd"), pool("meta", "ssd", 32)) if pools is None else pools,
        crush_rules=(crush_rule("any", ""), crush_rule("hdd", "hdd"), crush_rule("ssd", "ssd")),
        ec_profiles=(),
        flags=("sortbitwise",),
        is_stretched=False,
        has_autoscaler=True,
        config=(),
        hosts=(host(),),
        gaps=(),
    )


def hybrid(release: str) -> Facts:
    """Three disks with block.db on NVMe, three OSDs on NVMe: as it should be."""
    return cluster(*(disk(number, release) for number in range(3)), *(flash(number, release) for number in range(3, 6)))


def bare_disks(release: str) -> Facts:
    """Twelve disks and no SSD, made before Pacific and upgraded since."""
    osds = (
        replace(
            disk(number, release),
            has_db=False,
            is_db_rotational=None,
            db_size_bytes=0,
            db_devices=(),
            min_alloc_bytes=65536,
        )
        for number in range(12)
    )
    return cluster(*osds, pools=(pool("data", "any", 100),))


def all_flash(release: str) -> Facts:
    return cluster(*(flash(number, release) for number in range(6)), pools=(pool("data", "ssd"),))


def loopback() -> Facts:
    return decode((Path(__file__).parent / "recorded" / "pacific-loopback.json").read_text())


def with_osd(facts: Facts, number: int, **changed: object) -> Facts:
    osds = tuple(replace(osd, **changed) if osd.osd == number else osd for osd in facts.osds)  # type: ignore[arg-type]
    return replace(facts, osds=osds)


def with_option(facts: Facts, number: int, name: str, value: str, source: str = "mon") -> Facts:
    osd = next(osd for osd in facts.osds if osd.osd == number)
    rest = tuple(option for option in osd.options if option.name != name)
    options = sorted((*rest, Option(name, value, source)), key=lambda option: option.name)
    return with_osd(facts, number, options=tuple(options))


def with_host(facts: Facts, **changed: object) -> Facts:
    return replace(facts, hosts=tuple(replace(one, **changed) for one in facts.hosts))  # type: ignore[arg-type]


def with_sysctl(facts: Facts, name: str, value: str) -> Facts:
    sysctls = tuple(Option(name, value, "kernel") if one.name == name else one for one in facts.hosts[0].sysctls)
    return with_host(facts, sysctls=sysctls)


def with_pool(facts: Facts, name: str, **changed: object) -> Facts:
    pools = tuple(replace(one, **changed) if one.pool == name else one for one in facts.pools)  # type: ignore[arg-type]
    return replace(facts, pools=pools)


def with_device(facts: Facts, name: str, **changed: object) -> Facts:
    devices = tuple(
        replace(one, **changed) if one.device == name else one  # type: ignore[arg-type]
        for one in facts.hosts[0].devices
    )
    return with_host(facts, devices=devices)
