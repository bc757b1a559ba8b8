"""The two lines of a call as values: what was reserved before it, and how it was settled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dashbelle.vocabulary import EndReason


@dataclass(frozen=True, slots=True)
class Reservation:
    """The line written before a call computes anything. `started_at` is aware."""

    request_id: str
    key_id: int
    key_name: str
    workspace: str | None
    model: str
    served_model: str
    input_tokens: int
    max_output_tokens: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """The line that ends a call. `first_token_s` counts from the call's start; None: there was no token."""

    request_id: str
    input_tokens: int
    output_tokens: int
    end_reason: EndReason
    queue_s: float
    first_token_s: float | None
    ended_at: datetime
