"""langchain-community's Tongyi and ChatTongyi, as their users call them; nothing but the environment says where."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

warnings.simplefilter("ignore")  # the package announces its own end

from langchain_community.chat_models import ChatTongyi  # type: ignore[import-not-found]  # noqa: E402
from langchain_community.llms import Tongyi  # type: ignore[import-not-found]  # noqa: E402

PROMPT = sys.argv[1]


def observed(work: Callable[[], object]) -> object:
    """The result, or the class and the text of what was raised."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whatever is raised is what its users see
        return {"raised": type(error).__name__, "text": str(error)}


def texts(model: Any) -> list[str]:  # noqa: ANN401 - the package's own objects
    """Each piece of a stream."""
    return [text_of(piece) for piece in model.stream(PROMPT)]


async def texts_later(model: Any) -> list[str]:  # noqa: ANN401
    """The same, asynchronously."""
    return [text_of(piece) async for piece in model.astream(PROMPT)]


def text_of(piece: Any) -> str:  # noqa: ANN401
    """A model of texts gives strings, one of messages gives messages."""
    return str(getattr(piece, "content", piece))


def seen_of(kind: type) -> dict[str, object]:
    """What every way to call one class gives."""
    model = kind(model="echo")
    streaming = kind(model="echo", streaming=True)  # without it, ChatTongyi's stream is a single piece
    return {
        "invoke": observed(lambda: text_of(model.invoke(PROMPT))),
        "stream": observed(lambda: texts(streaming)),
        "ainvoke": observed(lambda: text_of(asyncio.run(model.ainvoke(PROMPT)))),
        "astream": observed(lambda: asyncio.run(texts_later(streaming))),
        "stop": observed(lambda: text_of(model.invoke(PROMPT, stop=["世界"]))),
        "wrong_key": observed(lambda: text_of(kind(model="echo", api_key="sk-wrong", max_retries=1).invoke(PROMPT))),
    }


def told_beside_the_text() -> dict[str, object]:
    """What a call of each class tells beside its text."""
    ((generation,),) = Tongyi(model="echo").generate([PROMPT]).generations
    message = ChatTongyi(model="echo").invoke(PROMPT)
    return {"Tongyi": generation.generation_info, "ChatTongyi": message.response_metadata, "type": message.type}


if __name__ == "__main__":
    told = observed(told_beside_the_text)
    sys.stdout.write(json.dumps({"Tongyi": seen_of(Tongyi), "ChatTongyi": seen_of(ChatTongyi), "told": told}))
