"""Every error that a caller can see has a row of the compatible protocol's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashbelle import errors
from dashbelle.errors import DashbelleError
from dashbelle.wire.openai_errors import FORMS, encode_error, form_of

GOLDEN = Path(__file__).parents[2] / "golden"
ID = "0f4c2c1e-7d1f-4b7e-8f0a-1c2d3e4f5a6b"


def kinds(of: type[DashbelleError] = DashbelleError) -> Iterator[type[DashbelleError]]:
    for kind in of.__subclasses__():
        yield from kinds(kind)
        if kind.__module__ == errors.__name__ and hasattr(kind, "code"):
            yield kind


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_error_has_a_row_or_one_of_its_own_code_and_status(kind: type[DashbelleError]) -> None:
    """A new kind may share its parent's row only if it is the same thing to a client of the native protocol."""
    owner = next((above for above in kind.__mro__ if above in FORMS), None)
    assert owner is not None, f"{kind.__name__} has no row in wire/openai_errors.py"
    shares = owner is kind or (owner.status, owner.code.split(".")[0]) == (kind.status, kind.code.split(".")[0])
    assert shares, f"{kind.__name__} needs a row of its own in wire/openai_errors.py"


def test_a_kind_without_any_row_is_a_defect() -> None:
    with pytest.raises(KeyError):
        form_of(errors.Refused)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (errors.InvalidApiKey(), 401, "invalid_request_error", "invalid_api_key"),
        (errors.InvalidParameter("x"), 400, "invalid_request_error", "invalid_parameter_error"),
        (errors.InputTooLong(9, 8), 400, "invalid_request_error", "invalid_parameter_error"),
        (errors.EmptyModel(), 400, "invalid_request_error", "invalid_parameter_error"),
        (errors.PayloadTooLarge(), 413, "invalid_request_error", "request_too_large"),
        (errors.NotFound(), 404, "invalid_request_error", "not_found"),
        (errors.ModelNotFound(), 404, "invalid_request_error", "model_not_found"),
        (errors.UnsupportedModel(), 404, "invalid_request_error", "model_not_supported"),
        (errors.QueueFull(), 429, "limit_requests", "limit_requests"),
        (errors.RequestLimitReached("key", limit=1, used=1, retry_after_s=1), 429, "limit_requests", "limit_requests"),
        (
            errors.TokenLimitReached("key", limit=1, used=1, retry_after_s=1),
            429,
            "insufficient_quota",
            "insufficient_quota",
        ),
        (errors.BudgetUsedUp(), 429, "insufficient_quota", "insufficient_quota"),
        (errors.MoneyUsedUp(), 400, "Arrearage", "Arrearage"),
        (errors.ServerDraining(), 503, "server_error", "service_unavailable"),
        (errors.RequestTimedOut(), 408, "server_error", "request_timeout"),
        (errors.SchemaRefused(), 400, "invalid_request_error", "invalid_parameter_error"),
        (errors.EngineDied(), 500, "internal_error", "internal_error"),
        (errors.InternalError(), 500, "internal_error", "internal_error"),
    ],
)
def test_rows_say_what_openai_clients_know(error: DashbelleError, status: int, kind: str, code: str) -> None:
    told = json.loads(encode_error(error, ID))
    assert (error.status, told["error"]["type"], told["error"]["code"]) == (status, kind, code)
    assert told["error"]["message"]
    assert told["error"]["param"] is None
    assert told["request_id"] == ID


def test_a_message_is_the_rule_that_was_broken() -> None:
    error = errors.InvalidParameter("Range of n should be [1, 4]")
    assert json.loads(encode_error(error, ID))["error"]["message"] == "Range of n should be [1, 4]"


def test_errors_are_spelt_exactly() -> None:
    assert encode_error(errors.InvalidApiKey(), ID) == (GOLDEN / "openai-error.json").read_bytes()
