"""Errors in the compatible protocol's form: one row per kind of error."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dashbelle import errors
from dashbelle.errors import DashbelleError

INVALID = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class Form:
    """How one kind of error looks. `message` replaces the error's own, whose wording is the native protocol's."""

    code: str
    type: str
    message: str | None = None


FORMS: dict[type[DashbelleError], Form] = {
    errors.InvalidApiKey: Form("invalid_api_key", INVALID, "Incorrect API key provided."),
    errors.InvalidParameter: Form("invalid_parameter_error", INVALID),
    errors.UnsupportedOperation: Form("invalid_parameter_error", INVALID),
    errors.TooManyFiles: Form("invalid_parameter_error", INVALID),
    errors.EmptyModel: Form("invalid_parameter_error", INVALID, "you must provide a model parameter"),
    errors.EmptyInput: Form("invalid_parameter_error", INVALID),
    errors.IllegalInput: Form("invalid_parameter_error", INVALID),
    errors.PayloadTooLarge: Form("request_too_large", INVALID),
    errors.HeadersTooLarge: Form("request_too_large", INVALID),
    errors.RequestTooSlow: Form("request_timeout", INVALID),
    errors.TooManyConnections: Form("service_unavailable", "server_error"),
    errors.AsyncNotSupported: Form("access_denied", INVALID),
    errors.NotFound: Form("not_found", INVALID),
    errors.ModelNotFound: Form("model_not_found", INVALID),
    errors.UnsupportedModel: Form("model_not_supported", INVALID),
    errors.QueueFull: Form("limit_requests", "limit_requests"),
    errors.LimitReached: Form("limit_requests", "limit_requests"),
    errors.TokenLimitReached: Form("insufficient_quota", "insufficient_quota"),
    errors.BudgetUsedUp: Form("insufficient_quota", "insufficient_quota"),
    errors.FreeTierUsedUp: Form("insufficient_quota", "insufficient_quota"),
    errors.MoneyUsedUp: Form("Arrearage", "Arrearage"),
    errors.BudgetUsedUp: Form("insufficient_quota", "insufficient_quota"),
    errors.FreeTierUsedUp: Form("AllocationQuota.FreeTierOnly", "AllocationQuota.FreeTierOnly"),
    errors.MoneyUsedUp: Form("Arrearage", "Arrearage"),
    errors.ModelUnavailable: Form("service_unavailable", "server_error"),
    errors.LedgerUnavailable: Form("service_unavailable", "server_error"),
    errors.SchemaRefused: Form("invalid_parameter_error", INVALID),
    errors.RequestTimedOut: Form("request_timeout", "server_error"),
    errors.DrainedAway: Form("service_unavailable", "server_error"),
    errors.EngineFailed: Form("internal_error", "internal_error"),
    errors.InternalError: Form("internal_error", "internal_error"),
}
"""A kind without a row of its own has that of the nearest kind above it."""


def form_of(kind: type[DashbelleError]) -> Form:
    """The row of `kind`; raises KeyError if neither it nor any kind above it has one."""
    for ancestor in kind.__mro__:
        if issubclass(ancestor, DashbelleError) and ancestor in FORMS:
            return FORMS[ancestor]
    raise KeyError(kind)


def encode_error(error: DashbelleError, request_id: str) -> bytes:
    """The one error form of the compatible protocol, for HTTP bodies and for an event's data."""
    form = form_of(type(error))
    described = {"message": form.message or error.message, "type": form.type, "param": None, "code": form.code}
    return msgspec.json.encode({"error": described, "request_id": request_id})
