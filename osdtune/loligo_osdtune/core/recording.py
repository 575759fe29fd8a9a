"""Facts and measurements as JSON and back: what `osdtune observe --json` prints and `osdtune plan --facts` reads, what
`osdtune verify --json` prints and `osdtune verify --baseline` reads.

The dataclasses of `facts` and `figures` are the description of the formats; VERSION or MEASUREMENT_VERSION rises when one of
them changes.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from typing import Any

from loligo_osdtune.core.bursts import Load
from loligo_osdtune.core.facts import Facts, FactsError
from loligo_osdtune.core.figures import Effect, Measurement, Move

VERSION = 2
MEASUREMENT_VERSION = 1


def encode(facts: Facts, load: Load | None = None) -> dict[str, Any]:
    """`load` is for people and scripts: no rule reads it, and `decode` passes it over."""
    recorded = {"osdtune_facts": VERSION, **dataclasses.asdict(facts)}
    return recorded if load is None else {**recorded, "load": dataclasses.asdict(load)}


def decode(text: str | bytes) -> Facts:
    """FactsError: it is no recording, or one of another version."""
    recorded = _recorded(text, "osdtune_facts", VERSION, "facts", "osdtune observe --json")
    recorded.pop("load", None)
    facts = _value(Facts, recorded, "facts")
    assert isinstance(facts, Facts)
    return facts


def encode_measurement(
    measurement: Measurement, moves: Iterable[Move] = (), effects: Iterable[Effect] = ()
) -> dict[str, Any]:
    """What it was compared with is for people and scripts: `decode_measurement` passes it over."""
    return {
        "osdtune_measurement": MEASUREMENT_VERSION,
        **dataclasses.asdict(measurement),
        "moves": [dataclasses.asdict(move) for move in moves],
        "effects": [dataclasses.asdict(effect) for effect in effects],
    }


def decode_measurement(text: str | bytes) -> Measurement:
    """FactsError: it is no recording, or one of another version."""
    recorded = _recorded(text, "osdtune_measurement", MEASUREMENT_VERSION, "figures", "osdtune verify --json")
    recorded.pop("moves", None)
    recorded.pop("effects", None)
    measurement = _value(Measurement, recorded, "measurement")
    assert isinstance(measurement, Measurement)
    return measurement


def _recorded(text: str | bytes, mark: str, version: int, what: str, printed_by: str) -> dict[str, Any]:
    try:
        recorded = json.loads(text)
    except ValueError as error:
        raise FactsError(f"this is no JSON ({error}); give what '{printed_by}' printed") from None
    found = recorded.pop(mark, None) if isinstance(recorded, dict) else None
    if found is None:
        raise FactsError(f"these are no recorded {what}; give what '{printed_by}' printed")
    if found != version:
        raise FactsError(f"these {what} have format {found}, I read {version}; record them anew with this osdtune")
    assert isinstance(recorded, dict)
    return recorded


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
            raise FactsError(f"{where}: {', '.join(odd)} missing or unknown; record it anew with this osdtune")
        assert isinstance(wanted, type)
        return wanted(**{name: _value(kind, value[name], f"{where}.{name}") for name, kind in kinds.items()})
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(wanted, type) and type(value) is wanted:
        return value
    raise FactsError(f"{where} is {value!r}, which is not possible; record it anew with this osdtune")
