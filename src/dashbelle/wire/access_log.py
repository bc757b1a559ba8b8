"""The one log line of each request and of each WebSocket task; says who and how it went, never what was said."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

STATUS_CLIENT_GONE = 499
"""What the log says when the client left before its answer began; the number is nginx's."""


def log_access(
    log: FilteringBoundLogger,
    event: str,
    *,
    request_id: str,
    status: int | None,
    duration_s: float,
    key: str | None,
    code: str | None,
    client_gone: bool,
    **place: str,
) -> None:
    """Write the line. `status` is None if there was no answer; `place` says what was asked for."""
    optional = {"key": key, "code": code, "client_gone": client_gone or None}
    log.info(
        event,
        request_id=request_id,
        **place,
        status=status or STATUS_CLIENT_GONE,
        duration_ms=round(duration_s * 1000, 1),
        **{name: value for name, value in optional.items() if value is not None},
    )
