"""The values that a layout is made of, each with its source. docs/osdtune.md has them, too; a test keeps both the same."""

from dataclasses import dataclass

from loligo_osdtune.core.releases import QUINCY, since

#: The first releases with the flag `bulk`; before, the autoscaler is told a ratio.
WITH_BULK = since(QUINCY)
TARGET_SIZE_RATIO = 1.0
PGS_AN_OSD = 100
#: Of the data pool, however few OSDs there are.
LEAST_DATA_PGS = 32
SMALL_POOL_PGS = 16
APPLICATION = "loligo"
#: What the autoscaler looks at, too: below it a number is near enough.
PGS_FAR_OFF = 3
AUTOSCALE_DEFAULT = "osd_pool_default_pg_autoscale_mode"
#: Where Pacific keeps it; later releases have a flag of the OSD map.
NOAUTOSCALE = "mgr/pg_autoscaler/noautoscale"
#: What the probe has to ask for, on top of what rules read.
LAYOUT_OPTIONS = (AUTOSCALE_DEFAULT, NOAUTOSCALE)


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    value: str
    source: str


CRUSH_RULE = Value("layout.crush_rule", "one device class", "Ceph documentation, CRUSH maps: device classes")
DOMAIN = Value("layout.failure_domain", "host", "Ceph documentation, CRUSH maps: failure domains")
SIZE = Value("layout.size", "3", "Ceph's default osd_pool_default_size")
MIN_SIZE = Value(
    "layout.min_size",
    "size - size / 2; with EC k + 1, or k if m is 1",
    "Ceph's defaults: osd_pool_default_min_size, OSDMonitor prepare_pool_size",
)
CODING = Value("layout.ec", "none", "Ceph documentation, erasure code: profiles")
OVERWRITES = Value(
    "layout.allow_ec_overwrites", "true", "Ceph documentation, erasure code: erasure coding with overwrites"
)
PG_NUM = Value(
    "layout.pg_num",
    "100 an OSD of the class, less those of other pools; the nearest power of two; at least 32",
    "Ceph documentation, placement groups; defaults mon_target_pg_per_osd and osd_pool_default_pg_num",
)
PG_NUM_SMALL = Value(
    "layout.pg_num_small", "16", "what 'ceph fs new' sets as pg_num_min of a metadata pool, FSCommands.cc"
)
AUTOSCALE = Value("layout.pg_autoscale_mode", "on", "Ceph's default since Octopus")
BULK = Value(
    "layout.bulk",
    "true; before Quincy target_size_ratio 1",
    "Ceph documentation, placement groups: bulk flag, target ratio",
)
TAG = Value("layout.application", "loligo", "Ceph documentation, pools: associating a pool with an application")
USERS = Value("layout.caps", "one namespace of one pool", "Ceph documentation, user management: namespaces, profiles")

VALUES = (
    CRUSH_RULE,
    DOMAIN,
    SIZE,
    MIN_SIZE,
    CODING,
    OVERWRITES,
    PG_NUM,
    PG_NUM_SMALL,
    AUTOSCALE,
    BULK,
    TAG,
    USERS,
)
