"""Bodies under limits, answers with unread bodies, and errors before, within and after an answer."""

from __future__ import annotations

import asyncio

import pytest
from asgi_client import REQUEST_ID, Connection, error_of, same_error, scope_of
from starlette.types import Message as ASGIMessage

from dashbelle.errors import (
    InternalError,
    InvalidApiKey,
    MalformedRequest,
    PayloadTooLarge,
    QueueFull,
    RequestLimitReached,
    RequestTooSlow,
    TokenLimitReached,
)
from dashbelle.wire.exchange import Exchange, ExchangeLimits, refusal_fields

CHUNKED = {"transfer-encoding": "chunked"}


def exchange_of(
    connection: Connection, headers: dict[str, str], body_stall_s: float = 8.0, drain_s: float = 1.0
) -> Exchange:
    bounds = ExchangeLimits(max_body_bytes=10, body_stall_s=body_stall_s, drain_s=drain_s)
    scope = scope_of("POST", "/a b\n", headers)
    return Exchange(scope, connection.receive, connection.send, request_id=REQUEST_ID, limits=bounds)


def length(count: int) -> dict[str, str]:
    return {"content-length": str(count)}


@pytest.mark.parametrize("headers", [length(10), CHUNKED])
async def test_a_body_of_exactly_the_limit_is_read(headers: dict[str, str]) -> None:
    assert await exchange_of(Connection([b"01234", b"", b"56789"]), headers).read_body() == b"0123456789"


async def test_a_request_without_a_body_has_an_empty_one() -> None:
    connection = Connection([b"never asked for"])
    assert await exchange_of(connection, {}).read_body() == b""
    assert connection.unread == [b"never asked for"]


async def test_an_announced_body_over_the_limit_is_refused_unread() -> None:
    connection = Connection([b"0" * 11])
    with pytest.raises(PayloadTooLarge):
        await exchange_of(connection, length(11)).read_body()
    assert connection.unread


async def test_a_chunked_body_is_refused_where_it_passes_the_limit() -> None:
    connection = Connection([b"012345", b"678901", b"rest"])
    with pytest.raises(PayloadTooLarge):
        await exchange_of(connection, CHUNKED).read_body()
    assert connection.unread == [b"rest"]


async def test_a_body_that_stalls_is_refused() -> None:
    connection = Connection([b"01"], whole=False)
    with pytest.raises(RequestTooSlow):
        await exchange_of(connection, length(10), body_stall_s=0.0).read_body()


async def test_a_body_that_breaks_off_is_refused() -> None:
    connection = Connection([b"01"], whole=False)
    connection.hang_up.set()
    exchange = exchange_of(connection, length(10))
    with pytest.raises(MalformedRequest):
        await exchange.read_body()
    assert exchange.client_gone


async def test_an_answer_behind_a_read_body_keeps_the_connection() -> None:
    connection = Connection([b"0123"])
    exchange = exchange_of(connection, length(4))
    await exchange.read_body()
    await exchange.answer(200, b"{}")
    assert connection.reply.headers == {
        "content-type": "application/json",
        "content-length": "2",
        "x-request-id": REQUEST_ID,
    }
    assert connection.reply.pieces == [b"{}"]
    assert connection.reply.ended


async def test_an_answer_before_the_body_was_read_drains_it_and_closes() -> None:
    connection = Connection([b"0123", b"4567"])
    await exchange_of(connection, length(8)).fail(InvalidApiKey())
    assert same_error(connection.reply, InvalidApiKey())
    assert connection.reply.headers["connection"] == "close"
    assert connection.unread == []


async def test_the_answer_leaves_before_the_rest_is_drained() -> None:
    class Watched(Connection):
        """Remembers what had been sent at each read."""

        sent_at_reads: list[int]

        async def receive(self) -> ASGIMessage:
            self.sent_at_reads.append(len(self.reply.pieces))
            return await super().receive()

    connection = Watched([b"0123", b"4567"])
    connection.sent_at_reads = []
    await exchange_of(connection, length(8)).fail(InvalidApiKey())
    assert connection.sent_at_reads == [1, 1]


async def test_draining_ends_when_the_client_leaves() -> None:
    connection = Connection([b"0123"], whole=False)
    connection.hang_up.set()
    await exchange_of(connection, length(8), drain_s=3600.0).fail(InvalidApiKey())
    assert connection.reply.ended


async def test_draining_an_endless_body_ends_in_time() -> None:
    class Endless(Connection):
        """Never runs out of body."""

        async def receive(self) -> ASGIMessage:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b"0" * 10, "more_body": True}

    connection = Endless([])
    await exchange_of(connection, CHUNKED, drain_s=0.0).fail(PayloadTooLarge())
    assert same_error(connection.reply, PayloadTooLarge())


async def test_an_error_says_when_to_come_back() -> None:
    connection = Connection([b""])
    await exchange_of(connection, {}).fail(QueueFull(retry_after_s=7))
    assert connection.reply.headers["retry-after"] == "7"
    assert error_of(connection.reply)[0] == 429


async def test_an_error_after_the_first_event_is_an_event() -> None:
    connection = Connection([b""])
    exchange = exchange_of(connection, {})
    await exchange.begin_events(lambda error: error.code.encode())
    await exchange.send_event(b"first")
    await exchange.fail(InternalError())
    assert connection.reply.status == 200
    assert connection.reply.pieces == [b"first", b"InternalError", b""]
    assert connection.reply.ended


async def test_an_error_after_the_end_changes_nothing() -> None:
    for whole in (True, False):
        connection = Connection([b""])
        exchange = exchange_of(connection, {})
        if whole:
            await exchange.answer(200, b"{}")
        else:
            await exchange.begin_events(lambda error: error.code.encode())
            await exchange.end_events()
        before = list(connection.reply.pieces)
        await exchange.fail(InternalError())
        assert connection.reply.pieces == before
        assert exchange.error_code == "InternalError"


async def test_the_client_has_left_only_at_the_disconnect() -> None:
    connection = Connection([b"ab", b"cd"])
    exchange = exchange_of(connection, length(4))
    await exchange.read_body()
    waiting = asyncio.create_task(exchange.client_left())
    await asyncio.sleep(0)
    assert not waiting.done()
    connection.hang_up.set()
    await waiting
    assert exchange.client_gone


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("Bearer sk-1", "sk-1"),
        ("bearer sk-1", "sk-1"),
        ("BEARER   sk-1 ", "sk-1"),
        ("Basic sk-1", None),
        ("sk-1", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
    ],
)
def test_the_secret_is_what_follows_bearer(value: str, secret: str | None) -> None:
    assert exchange_of(Connection([]), {"authorization": value}).bearer() == secret


def test_no_or_two_authorizations_are_none() -> None:
    scope = scope_of("GET", "/", {})
    for headers in ([], [(b"authorization", b"Bearer sk-1")] * 2):
        scope["headers"] = headers
        connection = Connection([])
        exchange = Exchange(scope, connection.receive, connection.send, request_id="id", limits=ExchangeLimits(1))
        assert exchange.bearer() is None


def test_the_path_is_escaped_for_the_log() -> None:
    assert exchange_of(Connection([]), {}).path == "/a%20b%0A"


def test_the_head_of_a_refusal_tells_of_waiting_and_limits() -> None:
    limit = RequestLimitReached("Key 'a'", limit=5, used=5, retry_after_s=7, reset_s=31.2)
    assert dict(refusal_fields(limit)) == {
        b"retry-after": b"7",
        b"x-ratelimit-limit": b"5",
        b"x-ratelimit-remaining": b"0",
        b"x-ratelimit-reset": b"32",
    }
    useless = TokenLimitReached("Key 'a'", limit=0, used=0, asked=9, retry_after_s=None)
    assert dict(refusal_fields(useless))[b"x-should-retry"] == b"false"
    assert refusal_fields(QueueFull(retry_after_s=3)) == [(b"retry-after", b"3")]
