"""Every failure that a caller can see: one tree, each with the protocol's code and HTTP status.

DashbelleError
  x Refused                      the call never ran: no tokens, no ledger row
    + InvalidApiKey              401 InvalidApiKey
    + InvalidParameter           400 InvalidParameter
      - InputTooLong             400 InvalidParameter
      - MethodNotSupported       400 InvalidParameter
      - MalformedRequest         400 InvalidParameter
      - NoSuchFile               400 InvalidParameter
    + UnsupportedOperation       400 UnsupportedOperation
    + TooManyFiles               400 BadRequest.TooMany
    + EmptyModel                 400 BadRequest.EmptyModel
    + EmptyInput                 400 BadRequest.EmptyInput
    + IllegalInput               400 BadRequest.IllegalInput
    + PayloadTooLarge            413 BadRequest.TooLarge
    + HeadersTooLarge            431 BadRequest.TooLarge
    + RequestTooSlow             408 RequestTimeOut
    + TooManyConnections         503 ModelServingError
    + AsyncNotSupported          403 AccessDenied
    + NotFound                   404 NotFound
    + ModelNotFound              404 ModelNotFound
      - UnsupportedModel         404 ModelNotFound
    + QueueFull                  429 Throttling.RateQuota
    + LimitReached               429 Throttling
      - RequestLimitReached      429 Throttling.RateQuota
      - TokenLimitReached        429 Throttling.AllocationQuota
      - ConcurrencyLimitReached  429 Throttling
    + BudgetUsedUp               429 Throttling.AllocationQuota
      - FreeTierUsedUp           403 AllocationQuota.FreeTierOnly
      - MoneyUsedUp              400 Arrearage
    + ModelUnavailable           503 ModelUnavailable
      - ServerDraining           503 ModelUnavailable
    + LedgerUnavailable          503 ModelUnavailable
  x Failed                       the call had begun: its ledger row says how it ended
    + SchemaRefused              400 InvalidParameter
    + RequestTimedOut            408 RequestTimeOut
    + DrainedAway                503 ModelUnavailable
    + EngineFailed               500 InternalError.Algo
      - EngineDied               500 InternalError
      - EngineStalled            500 InternalError.Timeout
    + InternalError              500 InternalError

A message states the rule and the value ("Range of max_tokens should be [1, 2048]"), in the cloud's own words
where it has some. Codes and statuses: the protocol's error table; docs/protocol.md lists them.
"""

from __future__ import annotations

from typing import ClassVar

from dashbelle.vocabulary import EndReason

PATIENCE_S = 60
"""A wait that is longer is no matter of a client's own retries."""


class DashbelleError(Exception):
    """The root; never raised itself."""

    code: ClassVar[str]
    status: ClassVar[int]
    default_message: ClassVar[str]
    end_reason: ClassVar[EndReason] = EndReason.ERROR
    should_retry: bool | None = None
    """False: the same call cannot succeed later either. None: nothing is known beyond the status."""

    def __init__(self, message: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.message = message or self.default_message
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class Refused(DashbelleError):
    """The call never ran: no tokens, no ledger row."""


class Failed(DashbelleError):
    """The call had begun: its ledger row says how it ended."""


class InvalidApiKey(Refused):
    """Missing, malformed, unknown and revoked keys alike: a caller must not learn which."""

    code, status = "InvalidApiKey", 401
    default_message = "Invalid API-key provided."


class InvalidParameter(Refused):
    """A value or shape that the protocol does not allow."""

    code, status = "InvalidParameter", 400
    default_message = "Required parameter(s) missing or invalid, please check the request parameters."


class InputTooLong(InvalidParameter):
    """More tokens than the model's context leaves room for; prompts are never truncated."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"Range of input length should be [1, {limit}], but the prompt has {tokens} tokens")


class MethodNotSupported(InvalidParameter):
    """A known path, another verb. The cloud answers 400, not 405."""

    def __init__(self, method: str) -> None:
        super().__init__(f"Request method '{method}' is not supported.")


class MalformedRequest(InvalidParameter):
    """Bytes that are no well-formed HTTP/1.x request."""

    default_message = "The request is not well-formed HTTP/1.1."


class NoSuchFile(InvalidParameter):
    """No file of this id under the caller's key. The cloud answers 400, not 404."""

    default_message = "File not found."


class UnsupportedOperation(Refused):
    """The thing is in no state to have this done to it."""

    code, status = "UnsupportedOperation", 400
    default_message = "Failed to cancel the task, please confirm if the task is in PENDING status."


class TooManyFiles(Refused):
    """The key has as many files as it may."""

    code, status = "BadRequest.TooMany", 400
    default_message = "Out of number, no more files can be uploaded."


class EmptyModel(Refused):
    """No `model` in the body."""

    code, status = "BadRequest.EmptyModel", 400
    default_message = 'Required parameter "model" missing from request.'


class EmptyInput(Refused):
    """No `input` in the body."""

    code, status = "BadRequest.EmptyInput", 400
    default_message = "Required input parameter missing from request."


class IllegalInput(Refused):
    """`input` is there, but no object."""

    code, status = "BadRequest.IllegalInput", 400
    default_message = "The input parameter requires json format."


class PayloadTooLarge(Refused):
    """A body over the server's limit."""

    code, status = "BadRequest.TooLarge", 413
    default_message = "Payload Too Large"


class HeadersTooLarge(Refused):
    """Headers, trailers, chunk extensions or a request line over the server's limits."""

    code, status = "BadRequest.TooLarge", 431
    default_message = "Request Header Fields Too Large"


class RequestTooSlow(Refused):
    """Head or body did not arrive in time."""

    code, status = "RequestTimeOut", 408
    default_message = "The request did not arrive in time."


class TooManyConnections(Refused):
    """The server is at its bound of open connections."""

    code, status = "ModelServingError", 503
    default_message = "Too many connections, please try again later."


class AsyncNotSupported(Refused):
    """X-DashScope-Async on a route that answers at once."""

    code, status = "AccessDenied", 403
    default_message = "current user api does not support asynchronous calls."


class NotFound(Refused):
    """No such path or thing."""

    code, status = "NotFound", 404
    default_message = "Not found!"


class ModelNotFound(Refused):
    """A model name that this server does not serve."""

    code, status = "ModelNotFound", 404
    default_message = "Model can not be found."


class UnsupportedModel(ModelNotFound):
    """A model, whether it is served or not, that cannot do what the route is for."""

    default_message = "Unsupported model for this route."


class QueueFull(Refused):
    """Every slot is busy and the waiting line is at its bound."""

    code, status = "Throttling.RateQuota", 429
    default_message = "Requests rate limit exceeded, please try again later."


class LimitReached(Refused):
    """A limit of a key or a model has no room for this call: which, in what unit, how much is used, when it frees.

    `retry_after_s` None means that waiting will not help. `reset_s`: when all that is used now is free again.
    """

    code, status = "Throttling", 429
    default_message = "Requests throttling triggered."
    unit: ClassVar[str] = "units"

    def __init__(
        self, scope: str, *, limit: int, used: int, asked: int = 1, retry_after_s: int | None, reset_s: float = 0.0
    ) -> None:
        self.scope, self.limit, self.used, self.asked, self.reset_s = scope, limit, used, asked, reset_s
        if retry_after_s is None:
            self.should_retry = False
        wanted = f", this call may take {asked}" if asked > 1 else ""
        outlook = "waiting will not help" if retry_after_s is None else f"room in {retry_after_s} s"
        super().__init__(
            f"{self.default_message} {scope}: {used} of {limit} {self.unit} used{wanted}; {outlook}.",
            retry_after_s=retry_after_s,
        )

    @property
    def remaining(self) -> int:
        """What is left of the limit now; never negative."""
        return max(self.limit - self.used, 0)


class RequestLimitReached(LimitReached):
    """Too many calls begun within a minute."""

    code = "Throttling.RateQuota"
    default_message = "Requests rate limit exceeded, please try again later."
    unit = "requests per minute"


class TokenLimitReached(LimitReached):
    """The calls begun within a minute took, or may still take, too many tokens for one more."""

    code = "Throttling.AllocationQuota"
    default_message = "Allocated quota exceeded, please increase your quota limit."
    unit = "tokens per minute"


class ConcurrencyLimitReached(LimitReached):
    """Too many calls open at the same time, those that wait for a slot included."""

    unit = "concurrent calls"


class BudgetUsedUp(Refused):
    """A budget has no room for what this call may use at most. `explained`: which budget, how much, when it frees.

    `retry_after_s` None means that waiting will not help.
    """

    code, status = "Throttling.AllocationQuota", 429
    default_message = "Allocated quota exceeded, please increase your quota limit."

    def __init__(self, explained: str = "", *, retry_after_s: int | None = None) -> None:
        super().__init__(f"{self.default_message} {explained}".rstrip(), retry_after_s=retry_after_s)
        if retry_after_s is None or retry_after_s > PATIENCE_S:
            self.should_retry = False


class FreeTierUsedUp(BudgetUsedUp):
    """A budget of tokens that is never filled again."""

    code, status = "AllocationQuota.FreeTierOnly", 403
    default_message = "The free tier of the model has been exhausted."


class MoneyUsedUp(BudgetUsedUp):
    """A budget of money, whatever its period."""

    code, status = "Arrearage", 400
    default_message = "Access denied, please make sure your account is in good standing."


class ModelUnavailable(Refused):
    """The model is known, but its engine cannot take calls now."""

    code, status = "ModelUnavailable", 503
    default_message = "Model is unavailable, please try again later."


class ServerDraining(ModelUnavailable):
    """The server is shutting down and takes no new calls."""

    end_reason = EndReason.DRAIN


class LedgerUnavailable(Refused):
    """The ledger cannot write, and nothing runs unmetered."""

    code, status = "ModelUnavailable", 503
    default_message = "Usage cannot be recorded at the moment, please try again later."


class SchemaRefused(Failed):
    """The engine cannot follow the schema of `response_format`; only the engine can tell, so the call had begun."""

    code, status = "InvalidParameter", 400
    default_message = "The JSON schema of response_format cannot be followed: nothing satisfies it, or it is invalid."


class RequestTimedOut(Failed):
    """The call was over its time limit."""

    code, status = "RequestTimeOut", 408
    default_message = "Request timed out, please try again later."
    end_reason = EndReason.TIMEOUT


class DrainedAway(Failed):
    """The server stopped before the answer was whole."""

    code, status = "ModelUnavailable", 503
    default_message = "The server is shutting down, please try again later."
    end_reason = EndReason.DRAIN


class EngineFailed(Failed):
    """The engine reported an error for this call."""

    code, status = "InternalError.Algo", 500
    default_message = (
        "An internal error has occured during execution, please try again later or contact service support."
    )


class EngineDied(EngineFailed):
    """The engine's process ended while the call ran."""

    code = "InternalError"
    default_message = "An internal error has occured, please try again later or contact service support."


class EngineStalled(EngineFailed):
    """The engine made no progress and was ended."""

    code = "InternalError.Timeout"
    default_message = (
        "An internal timeout error has occured during execution, please try again later or contact service support."
    )


class InternalError(Failed):
    """Anything that this tree does not foresee; the log has the trace, the caller does not."""

    code, status = "InternalError", 500
    default_message = "An internal error has occured, please try again later or contact service support."
