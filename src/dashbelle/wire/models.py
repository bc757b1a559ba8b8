"""GET /api/v1/models: which models can be asked, and which of them really answers."""

from __future__ import annotations

from typing import Any

import msgspec

from dashbelle.engine.catalog import Catalog
from dashbelle.vocabulary import Caller
from dashbelle.wire.exchange import Exchange
from dashbelle.wire.pages import page_of


class Models:
    """The models of one catalog; every key sees all of them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def list(self, exchange: Exchange, _caller: Caller) -> None:
        """A page of all, or of the one that `?model=` names: none, if it is not there. Raises InvalidParameter."""
        page = page_of(exchange.query)
        wanted = exchange.query.get("model")
        names = [name for name in self._catalog.names if wanted in {None, name}]
        output = {
            "total": len(names),
            "page_no": page.number,
            "page_size": page.size,
            "models": [self._entry(name) for name in names[page.start : page.start + page.size]],
        }
        await _answer(exchange, output)

    async def show(self, exchange: Exchange, _caller: Caller) -> None:
        """The one that the path names. Raises ModelNotFound."""
        await _answer(exchange, self._entry(exchange.path_part("model")))

    def _entry(self, name: str) -> dict[str, Any]:
        served = self._catalog.find(name)
        return {
            "model": name,
            "name": name,
            "provider": "dashbelle",
            "source": "local",
            "served_by": served.name,
            "context_tokens": served.engine.context_tokens,
        }


async def _answer(exchange: Exchange, output: dict[str, Any]) -> None:
    await exchange.answer(200, msgspec.json.encode({"output": output, "request_id": exchange.request_id}))
