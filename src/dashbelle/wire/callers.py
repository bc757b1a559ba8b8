"""Who sends a request: proves its key, and knows no route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from dashbelle.vocabulary import Caller
from dashbelle.wire.exchange import Exchange

KeyedHandler = Callable[[Exchange, Caller], Awaitable[None]]


class KeyRing(Protocol):
    """What tells whose key it is: pipeline.Pipeline, as the wire sees it."""

    async def identify(self, secret: str | None) -> Caller:
        """Whose key this is. Raises InvalidApiKey."""
        ...


class Keyed:
    """A handler behind the key: it is not asked before that is proved."""

    def __init__(self, keys: KeyRing, handler: KeyedHandler) -> None:
        self._keys = keys
        self._handler = handler

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request. Raises InvalidApiKey, and what the handler raises."""
        await self._handler(exchange, await caller_of(exchange, self._keys))


async def caller_of(exchange: Exchange, keys: KeyRing) -> Caller:
    """Whose key the request bears, noted in the exchange for the log. Raises InvalidApiKey."""
    caller = await keys.identify(exchange.bearer())
    exchange.key_name = caller.key_name
    return caller
