"""GET /compatible-mode/v1/models: which models can be asked, in the compatible form."""

from __future__ import annotations

from typing import Any

import msgspec

from dashbelle.engine.catalog import Catalog
from dashbelle.vocabulary import Caller
from dashbelle.wire.exchange import Exchange

OWNER = "dashbelle"


class CompatibleModels:
    """The models of one catalog; every key sees all of them. `created` is in seconds of the Unix era."""

    def __init__(self, catalog: Catalog, created: float) -> None:
        self._catalog = catalog
        self._created = int(created)

    async def list(self, exchange: Exchange, _caller: Caller) -> None:
        """All of them; there are no pages."""
        models = [self._entry(name) for name in self._catalog.names]
        await exchange.answer(200, msgspec.json.encode({"object": "list", "data": models}))

    async def show(self, exchange: Exchange, _caller: Caller) -> None:
        """The one that the path names. Raises ModelNotFound."""
        name = exchange.path_part("model")
        self._catalog.find(name)
        await exchange.answer(200, msgspec.json.encode(self._entry(name)))

    def _entry(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": OWNER}
