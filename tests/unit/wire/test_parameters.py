"""Every parameter's range, the cloud's own words when it is missed, and what is ignored."""

from __future__ import annotations

import pytest

from dashbelle.errors import InvalidParameter
from dashbelle.vocabulary import Sampling, Stops
from dashbelle.wire.dashscope import ReplyForm
from dashbelle.wire.json_schema import ANY_OBJECT
from dashbelle.wire.logprobs import TOO_MANY
from dashbelle.wire.parameters import MAX_STOP_LENGTH, MAX_STOPS, RULES, Parameters, parse_parameters

MAX_SEED = 9223372036854775807
TEMPERATURE = "Temperature should be in [0.0, 2.0)"
TOP_P = "Range of top_p should be (0.0, 1.0]"
TOP_K = "Parameter top_k be greater than or equal to 0"
SEED = "Range of seed should be [0, 9223372036854775807]"
MAX_TOKENS = "Range of max_tokens should be [1, 2147483647]"
STOP = (
    'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
    "and all elements within the list must be of the same type."
)
STOP_LENGTH = "Range of length of each stop entry should be [1, 1024]"
RESULT_FORMAT = 'Parameter result_format should be "text" or "message".'


def sampling(**given: object) -> Sampling:
    return parse_parameters(given).sampling


@pytest.mark.parametrize(
    ("name", "value", "field", "parsed"),
    [
        ("temperature", 0, "temperature", 0.0),
        ("temperature", 1, "temperature", 1.0),
        ("temperature", 1.99, "temperature", 1.99),
        ("top_p", 1, "top_p", 1.0),
        ("top_p", 0.01, "top_p", 0.01),
        ("top_k", 0, "top_k", 0),
        ("top_k", 1, "top_k", 1),
        ("top_k", 50.0, "top_k", 50),
        ("top_k", 100, "top_k", 100),
        ("top_k", 101, "top_k", 0),
        ("top_k", 1000, "top_k", 0),
        ("top_k", None, "top_k", 0),
        ("seed", 0, "seed", 0),
        ("seed", 2147483647, "seed", 2147483647),
        ("seed", MAX_SEED, "seed", MAX_SEED),
        ("max_tokens", 1, "max_tokens", 1),
        ("max_tokens", 5.0, "max_tokens", 5),
        ("max_tokens", 10**12, "max_tokens", 10**12),
        ("max_completion_tokens", 7, "max_tokens", 7),
        ("repetition_penalty", 1, "repetition_penalty", 1.0),
        ("repetition_penalty", 1.1, "repetition_penalty", 1.1),
        ("presence_penalty", -2, "presence_penalty", -2.0),
        ("presence_penalty", 2.0, "presence_penalty", 2.0),
        ("frequency_penalty", -2, "frequency_penalty", -2.0),
        ("frequency_penalty", 2.0, "frequency_penalty", 2.0),
        ("response_format", {"type": "json_object"}, "json_schema", ANY_OBJECT),
        ("n", 1, "n", 1),
        ("stop", "你好", "stops", Stops(texts=("你好",))),
        ("stop", ["a", "b"], "stops", Stops(texts=("a", "b"))),
        ("stop", [7, 8], "stops", Stops(token_ids=((7,), (8,)))),
        ("stop", [[37763, 367], [1]], "stops", Stops(token_ids=((37763, 367), (1,)))),
        ("stop", [], "stops", Stops()),
        ("stop", ["x"] * MAX_STOPS, "stops", Stops(texts=("x",) * MAX_STOPS)),
        ("stop", "x" * MAX_STOP_LENGTH, "stops", Stops(texts=("x" * MAX_STOP_LENGTH,))),
    ],
)
def test_values_in_range_reach_sampling(name: str, value: object, field: str, parsed: object) -> None:
    got = getattr(sampling(**{name: value}), field)
    assert got == parsed
    assert type(got) is type(parsed)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -0.1, TEMPERATURE),
        ("temperature", 2.0, TEMPERATURE),
        ("temperature", "hot", "'temperature' must be Float"),
        ("temperature", True, "'temperature' must be Float"),
        ("top_p", 0, TOP_P),
        ("top_p", 1.1, TOP_P),
        ("top_p", [], "'top_p' must be Float"),
        ("top_k", -1, TOP_K),
        ("top_k", 1.5, "'top_k' must be Integer"),
        ("seed", -1, SEED),
        ("seed", MAX_SEED + 1, SEED),
        ("seed", "1", "'seed' must be Integer"),
        ("seed", False, "'seed' must be Integer"),
        ("max_tokens", 0, MAX_TOKENS),
        ("max_tokens", -1, MAX_TOKENS),
        ("max_tokens", 1.5, "'max_tokens' must be Integer"),
        ("max_completion_tokens", 0, MAX_TOKENS),
        ("repetition_penalty", 0, "Repetition_penalty should be greater than 0.0"),
        ("repetition_penalty", 10**400, "Repetition_penalty should be greater than 0.0"),
        ("repetition_penalty", {}, "'repetition_penalty' must be Float"),
        ("presence_penalty", -2.1, "Presence_penalty should be in [-2.0, 2.0]"),
        ("presence_penalty", 2.1, "Presence_penalty should be in [-2.0, 2.0]"),
        ("n", 0, "Range of n should be [1, 4]"),
        ("n", 5, "Range of n should be [1, 4]"),
        ("n", 1_000_000, "Range of n should be [1, 4]"),
        ("n", "2", "'n' must be Integer"),
        ("n", 2, 'Parameter n greater than 1 needs "result_format": "message".'),
        ("stop", 5, STOP),
        ("stop", {}, STOP),
        ("stop", True, STOP),
        ("stop", ["a", 1], STOP),
        ("stop", ["a", ["b"]], STOP),
        ("stop", [1, [2]], STOP),
        ("stop", [[1], ["a"]], STOP),
        ("stop", [[[1]]], STOP),
        ("stop", [True], STOP),
        ("stop", [[True]], STOP),
        ("stop", [1.5], STOP),
        ("stop", [None], STOP),
        ("stop", "", STOP_LENGTH),
        ("stop", ["a", ""], STOP_LENGTH),
        ("stop", [[]], STOP_LENGTH),
        ("stop", "x" * (MAX_STOP_LENGTH + 1), STOP_LENGTH),
        ("stop", ["x"] * (MAX_STOPS + 1), "Parameter stop should have at most 16 entries."),
        ("stop", [-1], "Range of token ids in stop should be [0, 2147483647]"),
        ("stop", [[2**31]], "Range of token ids in stop should be [0, 2147483647]"),
        ("result_format", "xml", RESULT_FORMAT),
        ("result_format", ["text"], RESULT_FORMAT),
        ("incremental_output", "true", "'incremental_output' must be Boolean"),
        ("incremental_output", 1, "'incremental_output' must be Boolean"),
        ("enable_search", True, "This model does not support enable_search."),
        ("enable_search", 1, "'enable_search' must be Boolean"),
        ("frequency_penalty", -2.1, "Frequency_penalty should be in [-2.0, 2.0]"),
        ("frequency_penalty", 2.1, "Frequency_penalty should be in [-2.0, 2.0]"),
        ("logprobs", 1, "'logprobs' must be Boolean"),
        ("logprobs", True, 'Parameter logprobs needs "result_format": "message".'),
        ("top_logprobs", 2, TOO_MANY),
        ("top_logprobs", -1, TOO_MANY),
        ("top_logprobs", True, "'top_logprobs' must be Integer"),
        ("tools", {}, "'tools' must be a list"),
    ],
)
def test_values_out_of_range_are_refused_with_the_rule(name: str, value: object, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_parameters({name: value})
    assert caught.value.message == message


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_parameters_mean_the_defaults(nothing: object) -> None:
    assert parse_parameters(nothing) == Parameters(Sampling(), ReplyForm())


@pytest.mark.parametrize("value", [[], "", 1, False])
def test_parameters_must_be_an_object(value: object) -> None:
    with pytest.raises(InvalidParameter, match='"parameters" must be a JSON object'):
        parse_parameters(value)


def test_null_counts_as_absent_everywhere_but_for_top_k() -> None:
    nulls = {rule.name: None for rule in RULES}
    assert parse_parameters(nulls) == Parameters(Sampling(top_k=0), ReplyForm())


def test_unknown_and_harmless_parameters_are_ignored() -> None:
    ignored = {
        "enable_search": False,
        "logprobs": False,
        "tools": [],
        "response_format": {"type": "text"},
        "debug": {"a": 1},
        "stream": "yes",
        "thinking_budget": -1,
        "n_discard": -1,
        "top_logprobs": 0,
        "": None,
    }
    assert parse_parameters(ignored) == parse_parameters({})


def test_the_reply_form_is_read() -> None:
    assert parse_parameters({"result_format": "text"}).form == ReplyForm()
    given = {"result_format": "message", "incremental_output": True}
    assert parse_parameters(given).form == ReplyForm(as_message=True, incremental=True)


def test_logprobs_are_for_messages() -> None:
    given = {"result_format": "message", "logprobs": True, "top_logprobs": 1}
    parameters = parse_parameters(given)
    assert parameters.sampling.logprobs
    assert parameters.form == ReplyForm(as_message=True, logprobs=True, top_logprobs=1)


def test_offered_tools_are_noted() -> None:
    assert parse_parameters({"tools": [{"type": "function"}]}).uses_tools


def test_max_tokens_wins_over_its_alias() -> None:
    assert sampling(max_tokens=3, max_completion_tokens=9).max_tokens == 3
    assert sampling(max_completion_tokens=9, max_tokens=3).max_tokens == 3


def test_several_choices_need_the_message_form() -> None:
    assert sampling(n=4, result_format="message").n == 4
