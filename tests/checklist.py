"""The 94 items of docs/conformance.md: what DashScope's clients need of a server, and which clients each is about."""

from __future__ import annotations

from typing import NamedTuple

RAW = "raw HTTP"
CLIENT_2 = "dashscope 2.0.2 Client"
JAVA = "dashscope-sdk-java 2.22.29"


class Item(NamedTuple):
    """`kinds` has a letter for each kind of client that must see it, see KINDS."""

    number: int
    section: str
    kinds: str
    name: str


KINDS = {
    "R": "raw HTTP and WebSocket",
    "1": "dashscope's first surface, `Generation.call`",
    "2": "dashscope's second surface, `Client`",
    "J": "the Java SDK",
    "O": "openai's packages",
}

_SECTIONS: dict[str, list[tuple[str, str]]] = {
    "Routing and transport": [
        ("R", "the generation path answers a POST over plain HTTP/1.1"),
        ("R", "a slash behind the path changes nothing and redirects nobody"),
        ("R", "another method is refused in JSON"),
        ("R", "an unknown path is a 404 in JSON with code, message and request_id"),
        ("R", "100 requests on one connection"),
        ("R", "Expect: 100-continue before a body of more than 1 MB"),
        ("R", "a chunked request body"),
        ("R", "a body over the limit is a 413 in JSON and harms nobody"),
        ("R", "HTTP/1.0 and Connection: close get the whole reply"),
        ("1", "the base address with and without a slash at its end"),
    ],
    "Keys and headers": [
        ("R", "no key is a 401 InvalidApiKey in JSON"),
        ("R", "a wrong key and another scheme are the same 401; the scheme in any case"),
        ("1", "a wrong key is a response with 401, not an exception"),
        ("2J", "a wrong key is an error of the client's own kind that says so"),
        ("R", "the X-Request-ID header is the body's request_id"),
        ("R", "request_id is a UUID, another one for each request"),
        ("1", "workspace, plugins and own headers do no harm"),
        ("1", "a call that asks for data inspection"),
        ("R", "JSON with parameters of its type or without a type; text/plain is refused"),
    ],
    "Bodies": [
        ("R", "a body that is no JSON is a 400"),
        ("R", "JSON that is no object is a 400"),
        ("R", "no model, an empty one, one that is no string"),
        ("R", "no input"),
        ("R", "an input that is no object"),
        ("R", "an input with neither prompt nor messages"),
        ("RJ", "no parameters at all is fine"),
        ("R", "parameters null is fine, a list is refused"),
        ("R1", "an unknown model is a 404 ModelNotFound"),
        ("R", "unknown parameters are ignored"),
        ("R", "an empty prompt or a list for one is a 400"),
        ("R", "an empty list of messages is refused even beside a prompt"),
        ("R", "a message without content or with a bad role is a 400"),
        ("R", "a prompt over the context is refused with the range"),
        ("R", "emoji, escaped surrogate pairs, NUL and CRLF in a prompt"),
        ("R", "10 MB of nested arrays is a 400 and no crash"),
    ],
    "Parameters": [
        ("R2", "temperature: its range"),
        ("R", "top_p: its range"),
        ("R", "top_k: its range, null too"),
        ("R", "seed: its range up to 2^63 - 1"),
        ("R", "the same seed gives the same text; greedy needs none"),
        ("R", "max_tokens: its range, obeyed, finish_reason length"),
        ("R", "stop in its four forms, obeyed and not shown; a mixed list is refused"),
        ("R", "a stop text that falls into two frames is cut and none of it leaks"),
        ("R", "repetition_penalty and presence_penalty: their ranges"),
        ("R1", "n: its range; two choices with their indices"),
        ("R", "an unknown result_format is refused"),
        ("1", "every keyword of Generation.call is obeyed, ignored or refused with its reason"),
    ],
    "Replies": [
        ("1", "a prompt: text, finish_reason, no choices, usage that adds up"),
        ("1", "messages with result_format message: role, content, finish_reason"),
        ("1", "messages without a result_format are answered as text"),
        ("1", "history and prompt; messages and prompt"),
        ("R", "a good reply has no code; usage is integers; request_id is a string"),
        ("2", "chat.completions.create: output_text and usage"),
        ("J", "generation.call: requestId, text, finishReason, usage"),
        ("R", "input_tokens is the tokenizer's count"),
        ("1J", "the samples of DashScope's BELLE page run unchanged"),
        ("R", "a BELLE prompt reaches the model as it is"),
    ],
    "Streams": [
        ("R", "either header alone streams; neither means JSON"),
        ("R", "text/event-stream;charset=UTF-8, chunked, the first frame before the end"),
        ("R", "the exact spelling of a frame; ids from 1 without gaps"),
        ("R", "the last event has its empty line; no [DONE]"),
        ("R1", 'finish_reason "null" in all frames but the last'),
        ("1", "each text of a stream begins with the one before; the last is the whole"),
        ("1", "incremental_output true adds up; false is cumulative again"),
        ("12J", "usage in every item, never less than before"),
        ("1", "20 streams at a time do not mix"),
        ("J", "streamCall, cumulative and incremental"),
        ("2", "stream=True: the final message is the whole answer"),
        ("R", "no frame holds half a character or U+FFFD"),
        ("R1", "a bad parameter of a stream is one error with its code"),
        ("R12J", "an engine that dies in mid-stream is an error event and an orderly end"),
        ("R", "a client that hangs up frees its slot at once"),
        ("R", "a slow reader does not hold up others"),
        ("R", "silence is filled with comments, never with a bare data line"),
        ("R", "a stopping server ends a stream with an error event"),
    ],
    "Load and limits": [
        ("R", "more calls than slots wait or get a 429 or 503 in JSON, never a reset"),
        ("2", "a 429 with Retry-After is tried again twice at most"),
        ("R", "a used up token quota is a 429 Throttling.AllocationQuota"),
        ("R", "a call over its time is a RequestTimeOut"),
        ("R", "an unforeseen error is a 500 InternalError without a trace"),
    ],
    "WebSocket": [
        ("1", "calls and streams over WebSocket; request_id is the task_id that was sent"),
        ("J", "the Java SDK over WebSocket; two calls on one object"),
        ("R1", "the path with and without a slash; a bad key is a 401 at the upgrade"),
        ("R", "task-started first; a payload in every event; task-finished with {}"),
        ("R", "streaming none is exactly one event with output"),
        ("R1", "a bad model or parameter is task-failed with code and message"),
        ("R", "pings; unknown actions; tasks that follow each other on one socket"),
    ],
    "Tokenizer, models, tasks, files": [
        ("1", "Tokenization.call: as many tokens as token_ids as input_tokens"),
        ("1", "Models: list, get, and 404 for an unknown one"),
        ("R", "an unknown task is UNKNOWN; one that cannot be cancelled says so"),
        ("R", "X-DashScope-Async is a 403 AccessDenied"),
        ("1", "Files: upload, list, get, delete without a purpose"),
        ("1", "FineTunes and Deployments give an error in JSON"),
    ],
    "Compatible mode": [
        ("RO2", "openai's protocol: chat, stream with [DONE] and usage, 401, 404, models"),
    ],
}

ITEMS = [
    Item(number, section, kinds, name)
    for number, (section, kinds, name) in enumerate(
        ((section, kinds, name) for section, items in _SECTIONS.items() for kinds, name in items), start=1
    )
]

JAVA_ONLY = frozenset({54, 67, 82})
"""Items that only the Java SDK can show, which no test of ours can install."""
