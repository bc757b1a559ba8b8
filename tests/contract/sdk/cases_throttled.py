"""The 2.0 surface against a server without room; its argument is the model."""

from __future__ import annotations

import sys

import dashscope  # type: ignore[import-not-found]
from observing import case, report


@case
def throttled() -> object:
    return dashscope.Client().chat.completions.create(model=sys.argv[1], messages="hello").output_text


if __name__ == "__main__":
    report()
