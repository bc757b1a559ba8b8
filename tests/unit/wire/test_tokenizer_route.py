"""POST /api/v1/tokenizer: the body of a generation in, each token out, nothing lost and nothing metered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from asgi_client import Gateway, Reply, ScriptedPipeline, error_of, generation, same_error
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import InvalidApiKey, MethodNotSupported, ModelNotFound
from dashbelle.vocabulary import Call, ChatPrompt, Message, TextPrompt, TokenizedPrompt
from dashbelle.wire.tokenizer import readable

PATH = "/api/v1/tokenizer"
GOLDEN = Path(__file__).parents[2] / "golden"
SPELLINGS = (b"<s>", b"Human", b":", "你好".encode(), b"\xf0\x9f", b"\x98\x80", b"<0x0A>", b"\n")


class SplittingPipeline(ScriptedPipeline):
    """Splits every prompt into the same tokens, or refuses it."""

    def __init__(self, spellings: tuple[bytes, ...] = SPELLINGS, *, served_by: str | None = None) -> None:
        super().__init__()
        self._spellings = spellings
        self._served = served_by
        self.refusal: Exception | None = None

    async def tokenize(self, call: Call) -> TokenizedPrompt:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal
        ids = (1, 12968, 29901, 231, 160, 134, 0, 13)
        return TokenizedPrompt(
            self._served or call.model, (ids * len(self._spellings))[: len(self._spellings)], self._spellings
        )


async def tokenized(body: object, pipeline: SplittingPipeline | None = None) -> Reply:
    return await Gateway(pipeline or SplittingPipeline()).post(body, path=PATH)


def bytes_of(text: str) -> bytes:
    """What the page says: replace each `<0xHH>` by its byte."""
    pieces = re.split("<0x([0-9A-F]{2})>", text)
    return b"".join(bytes.fromhex(piece) if place % 2 else piece.encode() for place, piece in enumerate(pieces))


async def test_the_reply_is_spelt_exactly() -> None:
    reply = await tokenized(generation())
    assert reply.status == 200
    assert reply.body == (GOLDEN / "tokenizer-answer.json").read_bytes()
    assert "x-dashbelle-served-by" not in reply.headers


@pytest.mark.parametrize(
    ("given_input", "prompt"),
    [
        ({"prompt": "你好"}, TextPrompt("你好")),
        ({"messages": [{"role": "user", "content": "你好"}]}, ChatPrompt((Message("user", "你好"),))),
        ({"history": [{"user": "a", "bot": "b"}], "prompt": "c"},
         ChatPrompt((Message("user", "a"), Message("assistant", "b"), Message("user", "c")))),
    ],
)  # fmt: skip
async def test_every_form_of_input_is_taken(given_input: object, prompt: object) -> None:
    pipeline = SplittingPipeline()
    assert (await tokenized(generation(input=given_input), pipeline)).status == 200
    assert [call.prompt for call in pipeline.calls] == [prompt]


@given(st.binary())
def test_no_byte_of_a_token_is_lost(spelling: bytes) -> None:
    assert bytes_of(readable(spelling)) == spelling


@given(st.text())
def test_whole_characters_stay_as_they_are(text: str) -> None:
    assert "<0x" in text or readable(text.encode()) == text


def test_a_text_that_looks_like_a_byte_is_told_from_one() -> None:
    assert readable(b"<0xE4>") == "<0x3C>0xE4>"
    assert readable(b"\xe4") == "<0xE4>"
    assert readable(b"<0xZZ>") == "<0xZZ>"


async def test_a_stand_in_is_named() -> None:
    reply = await tokenized(generation(), SplittingPipeline(served_by="small"))
    assert reply.headers["x-dashbelle-served-by"] == "small"


async def test_a_long_reply_is_whole() -> None:
    reply = await tokenized(generation(), SplittingPipeline((b"a",) * 20_000))
    output = reply.json["output"]
    assert len(output["tokens"]) == len(output["token_ids"]) == reply.json["usage"]["input_tokens"] == 20_000


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "InvalidParameter"),
        (generation(model=...), "BadRequest.EmptyModel"),
        (generation(input=...), "BadRequest.EmptyInput"),
        (generation(parameters={"top_p": 2}), "InvalidParameter"),
    ],
)
async def test_a_bad_body_is_refused_as_by_the_generation(body: object, code: str) -> None:
    generated = await Gateway().post(body)
    assert error_of(await tokenized(body)) == error_of(generated)
    assert generated.json["code"] == code


async def test_an_unknown_model_is_refused() -> None:
    pipeline = SplittingPipeline()
    pipeline.refusal = ModelNotFound()
    assert same_error(await tokenized(generation(), pipeline), ModelNotFound())


async def test_asking_for_a_stream_changes_nothing() -> None:
    reply = await Gateway(SplittingPipeline()).post(generation(), {"x-dashscope-sse": "enable"}, PATH)
    assert reply.headers["content-type"] == "application/json"


async def test_the_key_comes_first() -> None:
    pipeline = SplittingPipeline()
    reply = await Gateway(pipeline).post(b"{", {"authorization": "Bearer sk-wrong"}, PATH)
    assert same_error(reply, InvalidApiKey())
    assert pipeline.calls == []


async def test_only_post_is_served() -> None:
    assert same_error(await Gateway().request("GET", PATH), MethodNotSupported("GET"))
