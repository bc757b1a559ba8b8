"""A stream whose engine dies behind the first text. Argument: the engine's process id."""

from __future__ import annotations

import os
import signal
import sys

from observing import case, raised, report
from openai import APIError, OpenAI  # type: ignore[import-not-found]

client = OpenAI(max_retries=0)


@case
def stream() -> object:
    asked = [{"role": "user", "content": "Count to one thousand."}]
    chunks = client.chat.completions.create(
        model="smollm2-135m-instruct", messages=asked, stream=True, max_tokens=4000, temperature=0
    )
    texts = []
    try:
        for chunk in chunks:
            texts.append(chunk.choices[0].delta.content)
            if len(texts) == 3:
                os.kill(int(sys.argv[1]), signal.SIGKILL)
    except APIError as error:
        return {"texts": texts, "error": {**raised(error), "type": error.type}}
    return {"texts": texts}


if __name__ == "__main__":
    report()
