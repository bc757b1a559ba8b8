"""How each model wants its prompts written: one Template object per model, for serving and for training."""

from __future__ import annotations

import re

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dashbelle.vocabulary import ChatPrompt, Message, Prompt, Stops, TextPrompt

_BELLE_TURN = re.compile(r"(?:\A|\n|</s>)[ \t]*(Human|Assistant|Belle)[ \t]*:")
_BELLE_ROLES = {"Human": "user", "Assistant": "assistant", "Belle": "assistant"}

NEXT_TURN = Stops(texts=("\n\nHuman:", "\nHuman:"))
"""BELLE may go on and write the next human turn by itself: that is where its answer ends."""


class BadTemplate(Exception):
    """A chat template that cannot be used; the text says why in one line."""


class BelleTemplate:
    """BELLE's own form, `Human:...\\n\\nAssistant:`. A text prompt is in that form already and stays as it is.

    Every earlier answer is followed by </s>, as in BELLE's training data (LianjiaTech/BELLE issues 67 and 541). A
    system message has no place in that form: it opens the first human turn.
    """

    takes_tools = False

    def __init__(self, stops: Stops = NEXT_TURN) -> None:
        self.stops = stops

    def render(self, prompt: Prompt) -> str:
        """The exact text to tokenize."""
        if isinstance(prompt, TextPrompt):
            return prompt.text
        text, system = "", ""
        for message in prompt.messages:
            if message.role == "system":
                system += f"{message.content}\n"
            elif message.role == "user":
                text += f"Human:{system}{message.content}\n\nAssistant:"
                system = ""
            else:
                text += f"{message.content}</s>"
        return text


def read_belle(text: str) -> ChatPrompt | None:
    """The turns of a prompt in BELLE's form, or None when `text` is not in it.

    The form begins with a human turn and ends with an assistant's, empty or begun; a begun one stays the last message.
    """
    marks = list(_BELLE_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip() or marks[0][1] != "Human" or marks[-1][1] == "Human":
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [
        Message(_BELLE_ROLES[mark[1]], text[mark.end() : end].removesuffix("</s>").strip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    if not turns[-1].content:
        turns.pop()
    return ChatPrompt(tuple(turns))


class JinjaTemplate:
    """A model's own chat template, from its files, rendered in a sandbox.

    A text prompt is one user turn, unless it is written in BELLE's form: then its turns are translated, so that a
    program written for BELLE gets a sane answer from another model. Raises BadTemplate when the source is none.
    """

    stops = Stops()
    takes_tools = False
    """Some templates can write tools, but nobody here reads calls out of answers yet."""

    def __init__(self, source: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise BadTemplate(f"chat template: {error}") from None

    def render(self, prompt: Prompt) -> str:
        """The exact text to tokenize. Raises BadTemplate when the template refuses these turns."""
        if isinstance(prompt, TextPrompt):
            prompt = read_belle(prompt.text) or ChatPrompt((Message("user", prompt.text),))
        begun = prompt.messages[-1].content if prompt.messages[-1].role == "assistant" else ""
        turns = prompt.messages[:-1] if begun else prompt.messages
        messages = [{"role": message.role, "content": message.content} for message in turns]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True) + begun
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise BadTemplate(f"chat template: {error}") from None


def _raise(message: str) -> None:
    """What chat templates call when they do not like the turns."""
    raise jinja2.TemplateError(message)
