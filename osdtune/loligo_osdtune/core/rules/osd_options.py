"""Configuration options of OSDs."""

from loligo_osdtune.core.facts import Facts, Osd
from loligo_osdtune.core.releases import QUINCY, since
from loligo_osdtune.core.rule import HDD, SSD, Change, OsdRule, Refusal, Verdict, number, option_is
from loligo_runtime.sizes import format_size

GIB = 1 << 30
MEMORY_LEAST = 2 * GIB
MEMORY_TARGET = 4 * GIB
#: An OSD may exceed its target for a moment; this much of the host stays free for that and for the system.
HEADROOM = 1.2
#: Above these Ceph itself does not believe its own measurement.
CAPACITY_MOST = {HDD: 500.0, SSD: 80000.0}
CAPACITY_DEFAULT = {HDD: "315", SSD: "21500"}
_MCLOCK = "mclock_scheduler"
_SLEEPS = ("osd_recovery_sleep_hdd", "osd_recovery_sleep_hybrid", "osd_recovery_sleep_ssd", "osd_snap_trim_sleep_hdd")
_LIMITS = ("osd_max_backfills", "osd_recovery_max_active_hdd", "osd_recovery_max_active_ssd")
_OWN_COST = ("bluestore_throttle_cost_per_io_hdd", "bluestore_throttle_cost_per_io_ssd", "bluestore_rocksdb_options")


def _memory_target(facts: Facts, osd: Osd) -> Verdict:
    option = osd.option("osd_memory_target")
    if option is None or number(option, osd.name) >= MEMORY_LEAST:
        return None
    beside = sum(other.host == osd.host for other in facts.osds)
    if beside * MEMORY_TARGET * HEADROOM > osd.memory_bytes:
        return Refusal(
            f"osd_memory_target is {format_size(int(number(option, osd.name)))}, less than any OSD should have, but {osd.host} "
            f"has {format_size(osd.memory_bytes)} for {beside} OSDs: it needs more memory or fewer OSDs"
        )
    return Change(option.value, option.source, str(MEMORY_TARGET))


def _uses_mclock(osd: Osd) -> bool:
    queue = osd.option("osd_op_queue")
    return queue is not None and queue.value == _MCLOCK


def _capacity(device_class: str, name: str, facts: Facts, osd: Osd) -> Verdict:
    option = osd.option(name)
    if option is None or not _uses_mclock(osd) or number(option, osd.name) <= CAPACITY_MOST[device_class]:
        return None
    return Change(option.value, option.source, CAPACITY_DEFAULT[device_class])


def _capacity_hdd(facts: Facts, osd: Osd) -> Verdict:
    return _capacity(HDD, "osd_mclock_max_capacity_iops_hdd", facts, osd)


def _capacity_ssd(facts: Facts, osd: Osd) -> Verdict:
    return _capacity(SSD, "osd_mclock_max_capacity_iops_ssd", facts, osd)


def _shards(facts: Facts, osd: Osd) -> Verdict:
    shards, threads = osd.option("osd_op_num_shards_hdd"), osd.option("osd_op_num_threads_per_shard_hdd")
    if shards is None or threads is None or not _uses_mclock(osd) or shards.value == "1":
        return None
    return Change(f"{shards.value} x {threads.value}", shards.source, "1 x 5")


def _deferred_hdd(facts: Facts, osd: Osd) -> Verdict:
    option = osd.option("bluestore_prefer_deferred_size_hdd")
    if option is None or number(option, osd.name) == 65536:
        return None
    if number(option, osd.name) > 65536:
        return Refusal(
            f"bluestore_prefer_deferred_size_hdd is {option.value}, above Ceph's 65536: no published measurement says "
            "whether that helps or wears out the SSD; measure it on this cluster"
        )
    if not osd.has_db:
        return Refusal(
            f"bluestore_prefer_deferred_size_hdd is {option.value}: without a block.db on an SSD what is deferred is "
            "written twice to the same disk, so it may be meant so"
        )
    return Change(option.value, option.source, "65536")


def _own_costs(facts: Facts, osd: Osd) -> Verdict:
    own = [option for option in osd.options if option.name in _OWN_COST and option.source != "default"]
    if not own:
        return None
    return Change(
        ", ".join(option.name for option in own) + " set", own[0].source, "Ceph's defaults (remove the lines)"
    )


def _ignored_under_mclock(facts: Facts, osd: Osd) -> Verdict:
    override = osd.option("osd_mclock_override_recovery_settings")
    overrides = override is not None and override.value == "true"
    named = _SLEEPS if overrides else (*_SLEEPS, *_LIMITS)
    own = [
        option.name for option in osd.options if option.name in named and option.source not in ("default", "override")
    ]
    if not own or not _uses_mclock(osd):
        return None
    return Refusal(
        f"{', '.join(own)} set, and without effect: mClock sets sleeps to 0 and recovery limits itself; choose a profile "
        "(osd_mclock_profile) instead"
    )


OSD_OPTION_RULES = (
    OsdRule(
        rule="memory-target",
        setting="osd_memory_target",
        reads=("osd_memory_target", "memory"),
        recommended="4294967296",
        reason="below 2 GiB the cache holds neither RocksDB's indexes nor onodes, and every look-up is a read",
        source="Ceph documentation, hardware recommendations: memory; default of the option",
        weight=70,
        sets=(("osd_memory_target", None),),
        judge=_memory_target,
    ),
    OsdRule(
        rule="cache-autotune",
        setting="bluestore_cache_autotune",
        reads=("bluestore_cache_autotune",),
        recommended="true",
        reason="without it the caches keep fixed shares and osd_memory_target has no effect",
        source="Ceph documentation, BlueStore configuration: automatic cache sizing",
        weight=50,
        needs_restart=True,
        sets=(("bluestore_cache_autotune", None),),
        judge=option_is("bluestore_cache_autotune", lambda value: value != "true", "true"),
    ),
    OsdRule(
        rule="bluefs-buffered-io",
        setting="bluefs_buffered_io",
        reads=("bluefs_buffered_io",),
        recommended="true",
        reason="walking an omap reads the same RocksDB blocks again and again; the page cache keeps them",
        source="Ceph's default, and the description of the option",
        weight=45,
        needs_restart=True,
        sets=(("bluefs_buffered_io", None),),
        judge=option_is("bluefs_buffered_io", lambda value: value != "true", "true"),
    ),
    OsdRule(
        rule="allocator",
        setting="bluestore_allocator",
        reads=("bluestore_allocator",),
        recommended="hybrid",
        reason="it keeps its memory bounded when free space is in pieces",
        source="Ceph's default from Pacific to Squid",
        weight=25,
        needs_restart=True,
        sets=(("bluestore_allocator", None),),
        judge=option_is("bluestore_allocator", lambda value: value != "hybrid", "hybrid"),
    ),
    OsdRule(
        rule="prefer-deferred-hdd",
        classes=(HDD,),
        setting="bluestore_prefer_deferred_size_hdd",
        reads=("bluestore_prefer_deferred_size_hdd", "layout"),
        recommended="65536",
        reason="writes below this size are acknowledged by the SSD and reach the disk later, sorted",
        source="Ceph's default since Pacific; BlueStore, _do_alloc_write",
        weight=75,
        sets=(("bluestore_prefer_deferred_size_hdd", None),),
        judge=_deferred_hdd,
    ),
    OsdRule(
        rule="prefer-deferred-ssd",
        classes=(SSD,),
        setting="bluestore_prefer_deferred_size_ssd",
        reads=("bluestore_prefer_deferred_size_ssd",),
        recommended="0",
        reason="an SSD gains nothing from writing the same bytes twice, and wears",
        source="Ceph's default",
        weight=30,
        sets=(("bluestore_prefer_deferred_size_ssd", None),),
        judge=option_is("bluestore_prefer_deferred_size_ssd", lambda value: value != "0", "0"),
    ),
    OsdRule(
        rule="own-costs",
        setting="BlueStore's throttle costs and RocksDB options",
        reads=_OWN_COST,
        recommended="Ceph's defaults (remove the lines)",
        reason="values from older guides fit older releases; RocksDB's options are replaced as a whole, so new defaults "
        "(LZ4, sharding, the limit of the log) are lost",
        source="Ceph's defaults; release notes of Reef",
        weight=30,
        needs_restart=True,
        risk="low",
        by_hand="the lines may be there for other OSDs, too: look at them, then 'ceph config rm'",
        judge=_own_costs,
    ),
    OsdRule(
        rule="shards-hdd",
        classes=(HDD,),
        releases=since(QUINCY),
        setting="osd_op_num_shards_hdd x osd_op_num_threads_per_shard_hdd",
        reads=("osd_op_num_shards_hdd", "osd_op_num_threads_per_shard_hdd", "osd_op_queue"),
        recommended="1 x 5",
        reason="mClock orders within a shard only; with five of them a disk is shared by five schedulers that know nothing "
        "of each other",
        source="Ceph documentation, mClock configuration reference; tracker 66289",
        weight=45,
        needs_restart=True,
        sets=(("osd_op_num_shards_hdd", "1"), ("osd_op_num_threads_per_shard_hdd", "5")),
        judge=_shards,
    ),
    OsdRule(
        rule="mclock-capacity-hdd",
        classes=(HDD,),
        releases=since(QUINCY),
        setting="osd_mclock_max_capacity_iops_hdd",
        reads=("osd_mclock_max_capacity_iops_hdd", "osd_op_queue"),
        recommended="315",
        reason="no disk does more than 500: it was measured through a cache, and mClock shares out what is not there",
        source="Ceph documentation, mClock configuration reference; osd_mclock_iops_capacity_threshold_hdd",
        weight=50,
        sets=(("osd_mclock_max_capacity_iops_hdd", None),),
        judge=_capacity_hdd,
    ),
    OsdRule(
        rule="mclock-capacity-ssd",
        classes=(SSD,),
        releases=since(QUINCY),
        setting="osd_mclock_max_capacity_iops_ssd",
        reads=("osd_mclock_max_capacity_iops_ssd", "osd_op_queue"),
        recommended="21500",
        reason="above 80000 it was measured through a cache, and mClock shares out what is not there",
        source="Ceph documentation, mClock configuration reference; osd_mclock_iops_capacity_threshold_ssd",
        weight=40,
        sets=(("osd_mclock_max_capacity_iops_ssd", None),),
        judge=_capacity_ssd,
    ),
    OsdRule(
        rule="mclock-ignored",
        releases=since(QUINCY),
        setting="sleeps and recovery limits",
        reads=("osd_op_queue", "osd_mclock_override_recovery_settings", *_SLEEPS, *_LIMITS),
        recommended="a profile",
        reason="mClock limits recovery by its profile",
        source="Ceph documentation, mClock configuration reference: recovery and backfill options",
        weight=0,
        judge=_ignored_under_mclock,
    ),
    OsdRule(
        rule="scrub-during-recovery",
        setting="osd_scrub_during_recovery",
        reads=("osd_scrub_during_recovery",),
        recommended="false",
        reason="a disk that rebuilds has no time to scrub and to serve",
        source="Ceph's default",
        weight=25,
        sets=(("osd_scrub_during_recovery", None),),
        judge=option_is("osd_scrub_during_recovery", lambda value: value == "true", "false"),
    ),
)
