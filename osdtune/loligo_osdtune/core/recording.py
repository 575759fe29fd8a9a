"""Facts as JSON and back: what `osdtune observe --json` prints and `osdtune plan --facts` reads.

The dataclasses of `facts` are the description of the format; VERSION rises when one of them changes.
"""

import dataclasses
import json
import types
import typing
from typing import Any

from loligo_osdtune.core.bursts import Load
from loligo_osdtune.core.facts import Facts, FactsError

VERSION = 1


def encode(facts: Facts, load: Load | None = None) -> dict[str, Any]:
    """`load` is for people and scripts: no rule reads it, and `decode` passes it over."""
    recorded = {"osdtune_facts": VERSION, **dataclasses.asdict(facts)}
    return recorded if load is None else {**recorded, "load": dataclasses.asdict(load)}


def decode(text: str) -> Facts:
    """FactsError: it is no recording, or one of another version."""
    try:
        recorded = json.loads(text)
    except ValueError as error:
        raise FactsError(f"this is no JSON ({error}); give what 'osdtune observe --json' printed") from None
    version = recorded.pop("osdtune_facts", None) if isinstance(recorded, dict) else None
    if version is None:
        raise FactsError("these are no recorded facts; give what 'osdtune observe --json' printed")
    if version != VERSION:
        raise FactsError(f"these facts have format {version}, I read {VERSION}; record them anew with this osdtune")
    recorded.pop("load", None)
    facts = _value(Facts, recorded, "facts")
    assert isinstance(facts, Facts)
    return facts


def _value(wanted: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(wanted)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(wanted)[0]
        return tuple(_value(item, part, f"{where}[{index}]") for index, part in enumerate(value))
    if origin is types.UnionType:
        if value is None:
            return None
        return _value(typing.get_args(wanted)[0], value, where)
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        kinds = typing.get_type_hints(wanted)
        if set(kinds) != set(value):
            odd = sorted(set(kinds) ^ set(value))
            raise FactsError(f"{where}: {', '.join(odd)} missing or unknown; record the facts anew with this osdtune")
        assert isinstance(wanted, type)
        return wanted(**{name: _value(kind, value[name], f"{where}.{name}") for name, kind in kinds.items()})
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(wanted, type) and type(value) is wanted:
        return value
    raise FactsError(f"{where} is {value!r}, which is not possible; record the facts anew with this osdtune")
