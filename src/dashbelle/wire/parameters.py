"""The `parameters` object -> Sampling and ReplyForm: one row per parameter; texts are the cloud's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dashbelle.errors import InvalidParameter
from dashbelle.vocabulary import Sampling, Stops
from dashbelle.wire.dashscope import ReplyForm
from dashbelle.wire.logprobs import read_top
from dashbelle.wire.response_format import read_response_format

MAX_SEED = 2**63 - 1
MAX_STOPS = 16
MAX_STOP_LENGTH = 1024
"""Characters of a stop text, ids of a stop sequence."""
MAX_TOKEN_ID = 2**31 - 1

_Entry = TypeVar("_Entry", str, list[Any])
_TOP_K_OFF_ABOVE = 100
_STOP_TYPES = (
    'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
    "and all elements within the list must be of the same type."
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the caller asked for, checked."""

    sampling: Sampling
    form: ReplyForm
    uses_tools: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One known parameter: `read` gives its value or raises InvalidParameter; null counts as `null`, or as absent."""

    name: str
    read: Callable[[str, object], Any]
    field: str | None = None
    """The field that takes the value, of Sampling for most; None: checked, then ignored."""
    null: Any = None


def parse_parameters(value: object, *, as_parts: bool = False) -> Parameters:
    """Check every known parameter and ignore the others. Raises InvalidParameter with rule and range.

    `as_parts`: answers are messages whatever the result format, and their content is a list of parts.
    """
    given = {} if value is None else value
    if not isinstance(given, dict):
        raise InvalidParameter('The "parameters" must be a JSON object.')
    known = read_rules(RULES, given)
    form = ReplyForm(
        as_message=known.pop("as_message", False) or as_parts,
        incremental=known.pop("incremental", False),
        as_parts=as_parts,
        logprobs=known.get("logprobs", False),
        top_logprobs=known.pop("top_logprobs", 0),
    )
    uses_tools = known.pop("uses_tools", False)
    sampling = Sampling(**known)
    if sampling.n > 1 and not form.as_message:
        raise InvalidParameter('Parameter n greater than 1 needs "result_format": "message".')
    if sampling.logprobs and not form.as_message:
        raise InvalidParameter('Parameter logprobs needs "result_format": "message".')
    return Parameters(sampling, form, uses_tools)


def read_rules(rules: Iterable[Rule], given: Mapping[str, Any]) -> dict[str, Any]:
    """The checked values by field name. Raises InvalidParameter."""
    fields: dict[str, Any] = {}
    for rule in rules:
        if rule.name not in given:
            continue
        value = given[rule.name]
        value = rule.null if value is None else rule.read(rule.name, value)
        if rule.field is not None and value is not None:
            fields[rule.field] = value
    return fields


def _float(holds: Callable[[float], bool], out_of_range: str) -> Callable[[str, object], float]:
    def read(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidParameter(f"'{name}' must be Float")
        if not holds(value) or value > sys.float_info.max:
            raise InvalidParameter(out_of_range)
        return float(value)

    return read


def _integer(holds: Callable[[int], bool], out_of_range: str) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidParameter(f"'{name}' must be Integer")
        if not holds(value):
            raise InvalidParameter(out_of_range)
        return value

    return read


def read_boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameter(f"'{name}' must be Boolean")
    return value


def _never(reason: str) -> Callable[[str, object], None]:
    """A switch that must stay off."""

    def read(name: str, value: object) -> None:
        if read_boolean(name, value):
            raise InvalidParameter(reason)

    return read


def _top_k(name: str, value: object) -> int:
    limit = _integer(lambda k: k >= 0, "Parameter top_k be greater than or equal to 0")(name, value)
    return 0 if limit > _TOP_K_OFF_ABOVE else limit


def _as_message(_name: str, value: object) -> bool:
    if value not in ("text", "message"):
        raise InvalidParameter('Parameter result_format should be "text" or "message".')
    return bool(value == "message")


def _tools(name: str, value: object) -> bool:
    if not isinstance(value, list):
        raise InvalidParameter(f"'{name}' must be a list")
    return bool(value)


def _stops(_name: str, value: object) -> Stops:
    entries: object = [value] if isinstance(value, str) else value
    if not isinstance(entries, list):
        raise InvalidParameter(_STOP_TYPES)
    if len(entries) > MAX_STOPS:
        raise InvalidParameter(f"Parameter stop should have at most {MAX_STOPS} entries.")
    kinds = {type(entry) for entry in entries}
    if kinds <= {str}:
        return Stops(texts=tuple(_bounded(text) for text in entries))
    if kinds == {int}:  # any of these tokens, not the sequence of them
        entries = [[token_id] for token_id in entries]
    elif kinds != {list}:
        raise InvalidParameter(_STOP_TYPES)
    return Stops(token_ids=tuple(_token_ids(ids) for ids in entries))


def _token_ids(ids: list[Any]) -> tuple[int, ...]:
    if any(type(token_id) is not int for token_id in ids):
        raise InvalidParameter(_STOP_TYPES)
    if any(not 0 <= token_id <= MAX_TOKEN_ID for token_id in ids):
        raise InvalidParameter(f"Range of token ids in stop should be [0, {MAX_TOKEN_ID}]")
    return tuple(_bounded(ids))


def _bounded(entry: _Entry) -> _Entry:
    if not 1 <= len(entry) <= MAX_STOP_LENGTH:
        raise InvalidParameter(f"Range of length of each stop entry should be [1, {MAX_STOP_LENGTH}]")
    return entry


_max_tokens = _integer(lambda tokens: tokens >= 1, f"Range of max_tokens should be [1, {2**31 - 1}]")
"""Each model's own bound is admission's to check."""

SAMPLING_RULES = (
    Rule("temperature", _float(lambda t: 0 <= t < 2, "Temperature should be in [0.0, 2.0)"), "temperature"),
    Rule("top_p", _float(lambda p: 0 < p <= 1, "Range of top_p should be (0.0, 1.0]"), "top_p"),
    Rule("top_k", _top_k, "top_k", null=0),
    Rule("seed", _integer(lambda s: 0 <= s <= MAX_SEED, f"Range of seed should be [0, {MAX_SEED}]"), "seed"),
    Rule("max_completion_tokens", _max_tokens, "max_tokens"),
    Rule("max_tokens", _max_tokens, "max_tokens"),  # behind its alias, so that it wins over it
    Rule("stop", _stops, "stops"),
    Rule(
        "repetition_penalty",
        _float(lambda p: p > 0, "Repetition_penalty should be greater than 0.0"),
        "repetition_penalty",
    ),
    Rule(
        "presence_penalty",
        _float(lambda p: -2 <= p <= 2, "Presence_penalty should be in [-2.0, 2.0]"),
        "presence_penalty",
    ),
    Rule(
        "frequency_penalty",
        _float(lambda p: -2 <= p <= 2, "Frequency_penalty should be in [-2.0, 2.0]"),
        "frequency_penalty",
    ),
    Rule("n", _integer(lambda n: 1 <= n <= 4, "Range of n should be [1, 4]"), "n"),
    Rule("enable_search", _never("This model does not support enable_search.")),
    Rule("tools", _tools, "uses_tools"),
    Rule("response_format", read_response_format, "json_schema"),
)
"""What native and compatible requests share."""

RULES = (
    Rule("result_format", _as_message, "as_message"),
    Rule("incremental_output", read_boolean, "incremental"),
    *SAMPLING_RULES,
    Rule("logprobs", read_boolean, "logprobs"),
    Rule("top_logprobs", read_top, "top_logprobs"),
)
