"""What is known of a cluster at one moment.

Rules
1. Everything is what Ceph or the kernel said, unchanged but for its unit; judgements about it are in `devices`, `rules`
   and `opinion`.
2. What could not be learned is None, or an empty tuple with a line in `gaps` that says why. Nothing is guessed.
3. Tuples are sorted by their first field, so that the same cluster gives the same text.
"""

from dataclasses import dataclass


class FactsError(Exception):
    """The facts cannot be used. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Option:
    """One configuration option as a daemon has it. `source`: default, file, mon, override, env, cmdline."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Counters:
    """From the OSD's performance counters, since it started. Latencies are sums, so that two readings can be subtracted."""

    db_total_bytes: int
    db_used_bytes: int
    wal_total_bytes: int
    wal_used_bytes: int
    slow_used_bytes: int  # RocksDB on the main device although there is a DB device: spillover
    commits: int
    commit_sum_s: float
    deferred_writes: int
    deferred_bytes: int
    throttle_waits: int  # of the messenger's and BlueStore's throttles together
    throttle_wait_sum_s: float
    reads: int
    read_bytes: int
    writes: int
    written_bytes: int


@dataclass(frozen=True, slots=True)
class Osd:
    osd: int
    host: str
    device_class: str  # as CRUSH has it; "" for none
    crush_root: str  # the bucket that nothing is above, "default"; "" if CRUSH does not have the OSD
    crush_host: str  # the bucket of type host that it is in, usually as `host`; "" if there is none
    crush_weight: float  # 0: CRUSH gives it nothing
    version: str  # "16.2.15"
    release: str  # "pacific"
    is_up: bool
    is_in: bool
    object_store: str
    size_bytes: int
    is_rotational: bool | None  # what the kernel told the OSD about its main device
    is_db_rotational: bool | None  # None without a DB device
    has_db: bool
    has_wal: bool
    db_size_bytes: int
    wal_size_bytes: int
    devices: tuple[str, ...]  # kernel names under the main device, "sdb"
    db_devices: tuple[str, ...]
    wal_devices: tuple[str, ...]
    min_alloc_bytes: int | None  # told from Reef on, and by late releases of Pacific and Quincy
    memory_bytes: int  # of the host
    swap_bytes: int  # of the host
    pgs: int
    used_percent: float
    options: tuple[Option, ...]  # those that a rule reads
    counters: Counters | None  # None: it did not answer

    def option(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

    @property
    def name(self) -> str:
        return f"osd.{self.osd}"


@dataclass(frozen=True, slots=True)
class Pool:
    pool: str
    pg_num: int
    size: int
    min_size: int
    is_erasure_coded: bool
    ec_profile: str  # "" without erasure coding
    has_overwrites: bool  # erasure coded, and objects may be changed in place
    crush_rule: str
    autoscale_mode: str
    is_bulk: bool
    target_size_ratio: float
    is_tiered: bool  # a cache tier, or one lies over it
    stored_bytes: int
    objects: int
    applications: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CrushRule:
    rule: str
    device_classes: tuple[str, ...]  # in the order of its steps; "" for a step that takes any class
    roots: tuple[str, ...]  # what each of those steps takes, "default"
    domains: tuple[str, ...]  # bucket types of the steps that choose, "host"; the last is what copies are kept apart by
    is_erasure_coded: bool


@dataclass(frozen=True, slots=True)
class ErasureProfile:
    """How objects are cut and coded. `crush_*`: what a CRUSH rule that is made from it takes; "" for any class."""

    profile: str
    k: int
    m: int
    crush_class: str
    crush_root: str
    crush_domain: str


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """A line of the monitors' central configuration."""

    section: str  # "osd", "osd.3", "global"
    mask: str  # "class:hdd", "host:a", ""
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Device:
    """A block device of a host."""

    device: str
    is_rotational: bool
    is_virtual: bool  # made by a hypervisor, which does not say what is under it
    model: str
    scheduler: str
    read_ahead_kib: int
    requests: int
    write_cache: str


@dataclass(frozen=True, slots=True)
class Host:
    host: str
    kernel: str
    cpus: int
    memory_bytes: int
    swap_bytes: int
    governor: str  # "" where the kernel does not scale frequencies
    transparent_hugepages: str
    sysctls: tuple[Option, ...]  # source is "kernel"
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    code: str
    severity: str
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    fsid: str
    health: str
    checks: tuple[HealthCheck, ...]
    osds: tuple[Osd, ...]
    pools: tuple[Pool, ...]
    crush_rules: tuple[CrushRule, ...]
    ec_profiles: tuple[ErasureProfile, ...]
    flags: tuple[str, ...]  # of the OSD map
    is_stretched: bool  # over two sites and a tie-breaker
    has_autoscaler: bool | None  # the manager answers for it
    config: tuple[ConfigEntry, ...]
    hosts: tuple[Host, ...]
    gaps: tuple[str, ...]
