"""All rules, in the order in which a plan lists them."""

from loligo_osdtune.core.rule import HostRule, OsdRule, Rule
from loligo_osdtune.core.rules.hosts import HOST_RULES
from loligo_osdtune.core.rules.layout import LAYOUT_RULES
from loligo_osdtune.core.rules.osd_options import OSD_OPTION_RULES
from loligo_osdtune.core.rules.pools import POOL_RULES

RULES: tuple[Rule, ...] = (*LAYOUT_RULES, *OSD_OPTION_RULES, *POOL_RULES, *HOST_RULES)

#: What the probe has to ask for.
OPTIONS = tuple(sorted({name for rule in RULES if isinstance(rule, OsdRule) for name in rule.reads if "_" in name}))
SYSCTLS = tuple(sorted({name for rule in RULES if isinstance(rule, HostRule) for name in rule.reads if "." in name}))
