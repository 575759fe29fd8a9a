"""Asks a Ceph cluster, and changes it. Every command is in this file; those that change something are in the last part, and
only apply, undo and layout use them.

Rules
1. No answer takes longer than ANSWER_LIMIT_S: an OSD that hangs, or whose admin socket is off, is a gap and not a wait
   without end.
2. Keys are read by librados from the keyring; none passes through here.
"""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import rados

from loligo_osdtune.core.actions import ConfigLine
from loligo_osdtune.core.answers import Answers
from loligo_osdtune.core.health import Health, clean_among, health_of, reported_since
from loligo_osdtune.shell.failures import NotOffered, OsdtuneError
from loligo_runtime.rados_objects import connect

ANSWER_LIMIT_S = 10
_NO_SOCKET = "does it hang, or has it no admin socket?"
_HINTS = {"perf dump": _NO_SOCKET, "config get": _NO_SOCKET}
_CHANGES = (
    "config set",
    "config rm",
    "config-key dump",
    "config-key set",
    "config-key rm",
    "orch daemon",
    "osd crush rule create-erasure",
    "osd crush rule create-replicated",
    "osd erasure-code-profile set",
    "osd pool application enable",
    "osd pool create",
    "osd pool set",
)
#: In the monitors' key store: who is at work on the cluster. It is there from the first change to the last, also after a crash.
_LOCK = "osdtune/apply"


class Cluster:
    """A connection; use as a context manager."""

    def __init__(self, conf: str, name: str) -> None:
        """ObjectStoreError says why there is none."""
        self._rados = connect(conf, name)
        for option in ("rados_mon_op_timeout", "rados_osd_op_timeout"):
            self._rados.conf_set(option, str(ANSWER_LIMIT_S))
        self._name = name

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *exception: object) -> None:
        self._rados.shutdown()

    def observe(self, track: Callable[[Iterable[int]], Iterable[int]]) -> Answers:
        """Everything at once. `track` wraps the OSDs, one step each. OsdtuneError: not even the map was told."""
        osd_dump = self._monitor("osd dump")
        gaps: list[str] = []
        answers = Answers(
            health=self._monitor("health"),
            osd_dump=osd_dump,
            metadata=self._monitor("osd metadata"),
            osd_df=self._monitor("osd df"),
            df=self._monitor("df"),
            crush=self._monitor("osd crush dump"),
            config_dump=self._monitor("config dump"),
            has_autoscaler=self._has_autoscaler(gaps),
        )
        up = sorted(row["osd"] for row in osd_dump["osds"] if row["up"])
        config, counters = {}, {}
        for osd in track(up):
            config[osd] = self._optional(gaps, f"osd.{osd}: configuration", self._config, osd)
            counters[osd] = self._optional(gaps, f"osd.{osd}: performance counters", self._counters, osd)
        answers.config, answers.counters, answers.gaps = config, counters, tuple(gaps)
        return answers

    def counters(self, osds: Iterable[int]) -> dict[int, Any]:
        """`perf dump` of those of `osds` that answer."""
        found = {}
        for osd in osds:
            answer = self._optional([], "", self._counters, osd)
            if answer is not None:
                found[osd] = answer
        return found

    def fsid(self) -> str:
        return str(self._rados.get_fsid())

    def health(self) -> Health:
        return health_of(self._monitor("status"), self._monitor("osd dump"))

    def config_lines(self) -> dict[ConfigLine, str]:
        """The monitors' configuration, lines with a mask left out."""
        return {
            ConfigLine(line["section"], line["name"]): str(line["value"])
            for line in self._monitor("config dump")
            if not line.get("mask")
        }

    def running_value(self, osd: int, option: str) -> str:
        """What the OSD itself works with."""
        answer = self._osd(osd, "config get", var=option)
        return str(answer[option])

    def is_reported(self, osd: int, epoch: int) -> bool:
        """Whether the state of all placement groups of `osd` is known from `epoch` on."""
        return reported_since(self._monitor("pg ls-by-osd", osd=osd), epoch)

    def why_not_stop(self, osd: int) -> str:
        """Why placement groups would stop to serve without `osd`; "" if none would."""
        try:
            self._manager("osd ok-to-stop", ids=[str(osd)])
        except OsdtuneError as error:
            return str(error)
        return ""

    @contextlib.contextmanager
    def pool(self, name: str, namespace: str) -> Iterator[Any]:
        """An I/O context of librados. OsdtuneError: there is no such pool."""
        try:
            objects = self._rados.open_ioctx(name)
        except rados.ObjectNotFound:
            raise OsdtuneError(f"there is no pool {name!r}; 'ceph osd pool ls' lists them") from None
        try:
            objects.set_namespace(namespace)
            yield objects
        finally:
            objects.close()

    def primaries_of(self, pool: str) -> tuple[int, ...]:
        """The OSDs that have the first copy of something in it."""
        groups = self._monitor("pg ls-by-pool", poolstr=pool)["pg_stats"]
        return tuple(sorted({int(group["acting_primary"]) for group in groups} - {-1}))

    def unclean_in(self, pool: str) -> int:
        """How many of its placement groups are not active+clean; those that nobody has reported yet are among them."""
        groups = self._monitor("osd pool get", pool=pool, var="pg_num")["pg_num"]
        return int(groups) - clean_among(self._monitor("pg ls-by-pool", poolstr=pool))

    def primary_of(self, pool: str, namespace: str, name: str) -> int:
        """The OSD that has the first copy of an object, whether that exists or not; -1 for none."""
        return int(self._monitor("osd map", pool=pool, object=name, nspace=namespace)["acting_primary"])

    def has_orchestrator(self) -> bool:
        """Whether cephadm or another orchestrator can restart daemons."""
        try:
            return bool(self._manager("orch status").get("available"))
        except OsdtuneError:  # no such module is loaded
            return False

    def _has_autoscaler(self, gaps: list[str]) -> bool | None:
        try:
            self._manager("osd pool autoscale-status")
        except NotOffered:
            return False
        except OsdtuneError as error:
            gaps.append(f"placement group autoscaler: {error}")
            return None
        return True

    # -- changing --------------------------------------------------------------------------------

    def set_config(self, line: ConfigLine, value: str | None) -> None:
        """None removes the line."""
        if value is None:
            self._monitor("config rm", who=line.section, name=line.name)
        else:
            self._monitor("config set", who=line.section, name=line.name, value=value)

    def carry_out(self, command: Mapping[str, object]) -> None:
        """A step of a layout."""
        arguments = dict(command)
        self._monitor(str(arguments.pop("prefix")), **arguments)

    def restart_by_orchestrator(self, osd: int) -> None:
        self._manager("orch daemon", action="restart", name=f"osd.{osd}")

    def lock(self, owner: str) -> None:
        """OsdtuneError: somebody else has it. One that began in this very moment is not seen."""
        other = self._monitor("config-key dump", key=_LOCK).get(_LOCK)
        if other not in (None, owner):
            raise OsdtuneError(
                f"{other} is at work on this cluster, or was when it died: let it end, or go on or undo there; "
                f"only if that journal is lost: ceph config-key rm {_LOCK}"
            )
        self._monitor("config-key set", key=_LOCK, val=owner)

    def unlock(self) -> None:
        self._monitor("config-key rm", key=_LOCK)

    # -- sending ---------------------------------------------------------------------------------

    def _config(self, osd: int) -> Any:
        return self._manager("config show-with-defaults", who=f"osd.{osd}")

    def _counters(self, osd: int) -> Any:
        return self._osd(osd, "perf dump")

    def _osd(self, osd: int, prefix: str, **arguments: object) -> Any:
        return self._answer(
            prefix,
            lambda request: self._rados.osd_command(osd, request, b"", timeout=ANSWER_LIMIT_S),
            arguments,
        )

    def _manager(self, prefix: str, **arguments: object) -> Any:
        return self._answer(
            prefix, lambda request: self._rados.mgr_command(request, b"", timeout=ANSWER_LIMIT_S), arguments
        )

    def _monitor(self, prefix: str, **arguments: object) -> Any:
        return self._answer(
            prefix, lambda request: self._rados.mon_command(request, b"", timeout=ANSWER_LIMIT_S), arguments
        )

    def _optional(self, gaps: list[str], what: str, ask: Callable[[int], Any], osd: int) -> Any:
        try:
            return ask(osd)
        except OsdtuneError as error:
            gaps.append(f"{what}: {error}")
            return None

    def _answer(
        self, prefix: str, send: Callable[[str], tuple[int, bytes, str]], arguments: Mapping[str, object]
    ) -> Any:
        """None if there is nothing to say, as after a change."""
        try:
            code, output, status = send(json.dumps({"prefix": prefix, "format": "json", **arguments}))
        except rados.Error as error:
            code, output, status = -(error.errno or errno.EIO), b"", ""
        if code == 0:
            return json.loads(output) if output.strip() else None
        if -code in (errno.EACCES, errno.EPERM):
            if prefix in _CHANGES:
                raise OsdtuneError(
                    f"{self._name} may not do '{prefix}': name a user who may change the cluster, such as client.admin"
                )
            raise OsdtuneError(
                f"{self._name} may not ask '{prefix}'; give it the right to read: "
                f"ceph auth caps {self._name} mon 'allow r' mgr 'allow r' osd 'allow *'"
            )
        if -code == errno.ETIMEDOUT:
            hint = _HINTS.get(prefix, "see 'ceph -s': is a monitor in quorum, and a manager active?")
            raise OsdtuneError(f"no answer to '{prefix}' within {ANSWER_LIMIT_S} s; {hint}")
        text = f"'{prefix}' failed: {status or os.strerror(-code)}"
        raise NotOffered(text) if -code in (errno.EINVAL, errno.EOPNOTSUPP) else OsdtuneError(text)
