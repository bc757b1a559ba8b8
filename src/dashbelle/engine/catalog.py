"""Model name -> what serves it, the stand-in rule included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dashbelle.engine.base import Engine
from dashbelle.errors import ModelNotFound
from dashbelle.vocabulary import Defaults, Template


@dataclass(frozen=True)
class Served:
    """One model that answers: its engine, how prompts are written for it, and its own sampling values."""

    name: str
    engine: Engine
    template: Template
    defaults: Defaults


class Catalog:
    """Everything that can be asked by name.

    `stand_ins` maps a name whose weights are absent to the model that answers instead; `absent` maps a known name
    that nobody answers for to the sentence that says how to change that.
    """

    def __init__(
        self,
        models: Mapping[str, Served],
        stand_ins: Mapping[str, str] | None = None,
        absent: Mapping[str, str] | None = None,
    ) -> None:
        self.models = models
        self.stand_ins = stand_ins or {}
        self.absent = absent or {}

    def find(self, name: str) -> Served:
        """What answers to `name`. Raises ModelNotFound, with the way out where there is one."""
        served = self.models.get(self.stand_ins.get(name, name))
        if served is None:
            raise ModelNotFound(self.absent.get(name) or "The model does not exist or you do not have access to it.")
        return served

    @property
    def names(self) -> list[str]:
        """Every name that is answered for, those with a stand-in first."""
        return list(dict.fromkeys([*self.stand_ins, *self.models]))

    def unready(self) -> list[str]:
        """One reason per model that cannot serve at the moment."""
        return [f"{model.name}: {reason}" for model in self.models.values() if (reason := model.engine.unready())]

    async def close(self) -> None:
        """Close every engine."""
        for model in self.models.values():
            await model.engine.close()
