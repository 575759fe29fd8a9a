"""`osdtune layout`, without its options and output: asks, and carries out what is missing.

There is no journal: each step is idempotent, and what is missing is found anew in the cluster each time. So a crash anywhere
is mended by doing it again.
"""

import os
import time
from collections.abc import Callable, Iterable

from loligo_osdtune.core.answers import facts_of
from loligo_osdtune.core.layout.judge import KnownUser, Layout, layout_of, users_wanted
from loligo_osdtune.core.layout.values import LAYOUT_OPTIONS
from loligo_osdtune.core.layout.wish import Wish
from loligo_osdtune.shell.cluster import Cluster
from loligo_osdtune.shell.failures import OsdtuneError
from loligo_runtime.ceph_keys import Administration, finds_keyring
from loligo_runtime.ceph_users import CephUser
from loligo_runtime.failpoint import declare, failpoint
from loligo_runtime.object_url import RadosUrl, format_rados_url

declare("osdtune.layout.before", "osdtune.layout.after")

CLEAN_LIMIT_S = 300.0
POLL_S = 0.5


class LayingOut:
    """`keyrings`: the folder for keys, which is looked at only if `wish` names volumes."""

    def __init__(self, cluster: Cluster, administration: Administration, conf: str, wish: Wish, keyrings: str) -> None:
        self._cluster = cluster
        self._administration = administration
        self._conf = conf
        self._wish = wish
        self._keyrings = keyrings

    def look(self) -> Layout:
        """LayoutError, FactsError: the wish does not fit. OsdtuneError, CephUserError: Ceph did not answer all."""
        facts = facts_of(self._cluster.observe(lambda osds: ()), (), LAYOUT_OPTIONS)  # OSDs know nothing of this
        known = {}
        for user in users_wanted(self._wish):
            path = os.path.join(self._keyrings, user.keyring_name)
            known[user.entity] = KnownUser(
                self._administration.capabilities(user.entity), path, self._administration.has_key(user.entity, path)
            )
        return layout_of(facts, self._wish, known)

    def carry_out(self, layout: Layout, tell: Callable[[str], None]) -> None:
        """What is missing, in order, until it is seen to be there, and clean. OsdtuneError, CephUserError: why it is not."""
        for step in layout.steps:
            failpoint("osdtune.layout.before")
            tell(f"{step.target}: {step.does}")
            if step.user is None:
                self._cluster.carry_out(step.command)
            else:
                self._administration.make(step.user, self._keyrings)
            failpoint("osdtune.layout.after")
        left = self.look()
        if left.steps:
            raise OsdtuneError(f"done, but still missing: {'; '.join(step.words for step in left.steps)}")
        # Which of them are new cannot be told after a crash; one that is in use may be unclean for other reasons.
        self._wait_until_clean(pool.pool for pool in left.pools if pool.is_empty)
        if left.wrong:
            raise OsdtuneError(
                f"nothing is missing any more; what is wrong is left to you: {'; '.join(one.target for one in left.wrong)}"
            )

    def volume_lines(self, layout: Layout) -> Iterable[str]:
        """How the volumes are made, and what their users lack."""
        conf = os.path.abspath(self._conf)
        for volume in layout.volumes:
            url = format_rados_url(RadosUrl(volume.pool, volume.volume, conf, volume.daemon))
            yield f"loligo volume create {volume.volume} --meta file:///FOLDER --data '{url}'"
        yield from keyring_lines(conf, users_wanted(self._wish), self._keyrings)

    def _wait_until_clean(self, pools: Iterable[str]) -> None:
        deadline = time.monotonic() + CLEAN_LIMIT_S
        for pool in pools:
            while unclean := self._cluster.unclean_in(pool):
                if time.monotonic() > deadline:
                    raise OsdtuneError(
                        f"pool {pool} is there, but {unclean} of its placement groups are not active+clean after "
                        f"{CLEAN_LIMIT_S:.0f} s: see 'ceph pg ls-by-pool {pool}' and 'ceph health detail'"
                    )
                time.sleep(POLL_S)


def keyring_lines(conf: str, users: Iterable[CephUser], folder: str) -> Iterable[str]:
    """What `conf` lacks for all of `users` to be found in `folder`: one line does for them all."""
    folder = os.path.abspath(folder)
    if not all(finds_keyring(conf, user, os.path.join(folder, user.keyring_name)) for user in users):
        yield f"{conf} does not look for keys in {folder}; add to it: keyring = {folder}/ceph.$name.keyring"
