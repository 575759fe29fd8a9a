"""Asks a Ceph cluster. Commands that read only; every one of them is in this file.

Rules
1. No answer takes longer than ANSWER_LIMIT_S: an OSD that hangs, or whose admin socket is off, is a gap and not a wait
   without end.
2. Keys are read by librados from the keyring; none passes through here.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import rados

from loligo_osdtune.core.answers import Answers
from loligo_osdtune.shell.failures import OsdtuneError
from loligo_runtime.rados_objects import connect

ANSWER_LIMIT_S = 10
_HINTS = {"perf dump": "does it hang, or has it no admin socket?"}


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
            crush_rules=self._monitor("osd crush rule dump"),
            config_dump=self._monitor("config dump"),
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

    def _config(self, osd: int) -> Any:
        return self._answer(
            "config show-with-defaults",
            lambda request: self._rados.mgr_command(request, b"", timeout=ANSWER_LIMIT_S),
            who=f"osd.{osd}",
        )

    def _counters(self, osd: int) -> Any:
        return self._answer(
            "perf dump", lambda request: self._rados.osd_command(osd, request, b"", timeout=ANSWER_LIMIT_S)
        )

    def _monitor(self, prefix: str) -> Any:
        return self._answer(prefix, lambda request: self._rados.mon_command(request, b"", timeout=ANSWER_LIMIT_S))

    def _optional(self, gaps: list[str], what: str, ask: Callable[[int], Any], osd: int) -> Any:
        try:
            return ask(osd)
        except OsdtuneError as error:
            gaps.append(f"{what}: {error}")
            return None

    def _answer(self, prefix: str, send: Callable[[str], tuple[int, bytes, str]], **arguments: str) -> Any:
        try:
            code, output, status = send(json.dumps({"prefix": prefix, "format": "json", **arguments}))
        except rados.Error as error:
            code, output, status = -(error.errno or errno.EIO), b"", ""
        if code == 0:
            return json.loads(output)
        if -code in (errno.EACCES, errno.EPERM):
            raise OsdtuneError(
                f"{self._name} may not ask '{prefix}'; give it the right to read: "
                f"ceph auth caps {self._name} mon 'allow r' mgr 'allow r' osd 'allow *'"
            )
        if -code == errno.ETIMEDOUT:
            hint = _HINTS.get(prefix, "see 'ceph -s': is a monitor in quorum, and a manager active?")
            raise OsdtuneError(f"no answer to '{prefix}' within {ANSWER_LIMIT_S} s; {hint}")
        raise OsdtuneError(f"'{prefix}' failed: {status or os.strerror(-code)}")
