"""The other routes through the 1.x surface of any release: tokens, models, files, and what is not offered."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import dashscope  # type: ignore[import-not-found]
from observing import case, report, shown
from questions import PROMPT


def named(*names: str) -> Any:  # noqa: ANN401 - the SDK's own classes
    """The class by the first of its names that this release has; the oldest releases have them in the singular."""
    return next(getattr(dashscope, name) for name in names if hasattr(dashscope, name))


MODELS = named("Models", "Model")
FILES = named("Files", "File")
FINE_TUNES = named("FineTunes", "FineTune")


if hasattr(dashscope, "Tokenization"):

    @case
    def tokens() -> object:
        return shown(dashscope.Tokenization.call(model="echo", prompt=PROMPT))


@case
def models() -> object:
    return shown(MODELS.list())


@case
def known_model() -> object:
    return shown(MODELS.get("echo"))


@case
def unknown_model() -> object:
    return shown(MODELS.get("belle-7b"))


@case
def file_round_trip() -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.jsonl"
        path.write_text(json.dumps({"prompt": PROMPT}))
        uploaded = shown(FILES.upload(file_path=str(path), purpose=""))
    (kept,) = uploaded["output"]["uploaded_files"]
    file_id = kept["file_id"]
    steps = [uploaded, shown(FILES.list()), shown(FILES.get(file_id)), shown(FILES.delete(file_id))]
    return {"file_id": file_id, "steps": steps, "afterwards": shown(FILES.get(file_id))}


@case
def fine_tunes() -> object:
    return shown_and_printed(FINE_TUNES.list())


if hasattr(dashscope, "Deployments"):

    @case
    def deployments() -> object:
        return shown_and_printed(dashscope.Deployments.list())


def shown_and_printed(response: Any) -> dict[str, Any]:  # noqa: ANN401
    """What programs read of a response that is no mapping in every release; some can be printed only when complete."""
    return {"status_code": response.status_code, "code": response.code, "printed": str(response)}


if __name__ == "__main__":
    report()
