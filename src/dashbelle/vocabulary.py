"""The shared nouns of one call; imports nothing of ours, so that every layer can speak them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

FinishReason = Literal["stop", "length"]
"""Why a model stopped by itself: its end token or a stop rule, or the token limit."""


class EndReason(StrEnum):
    """How a call ended, as the ledger writes it: exactly one per call."""

    STOP = "stop"
    LENGTH = "length"
    CLIENT_GONE = "client_gone"
    TIMEOUT = "timeout"
    ERROR = "error"
    DRAIN = "drain"
    CRASHED = "crashed"
    """The gateway itself died; written at the next start for reservations that nobody settled."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: one API key, already proved."""

    key_id: int
    key_name: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is system, user, assistant or, under a template that takes tools, tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt given as one text. BELLE's callers send it already templated."""

    text: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A prompt given as turns, oldest first, never empty."""

    messages: tuple[Message, ...]
    uses_tools: bool = False
    """Whether tools are offered, or some turn calls one or brings its result."""


Prompt = TextPrompt | ChatPrompt


@dataclass(frozen=True, slots=True)
class Stops:
    """Where generation must end, besides the model's own end tokens; neither texts nor ids are ever empty."""

    texts: tuple[str, ...] = ()
    token_ids: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a caller asked for; None means "the model's default". Ranges were checked by the wire."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0 switches the filter off."""
    seed: int | None = None
    max_tokens: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stops: Stops = Stops()
    n: int = 1
    logprobs: bool = False
    """Whether each token of the answer comes with its probability."""
    json_schema: str | None = None
    """The answer must be JSON that this schema allows. The wire has bounded it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for text, parsed and attributed, not yet admitted."""

    request_id: str
    caller: Caller
    model: str
    prompt: Prompt
    sampling: Sampling = Sampling()
    workspace: str | None = None


@dataclass(frozen=True, slots=True)
class AdmittedPrompt:
    """A prompt that was proved to fit its model; made by `admission.fit` alone, and all that an engine accepts.

    Every sampling value is resolved. `greedy` calls ignore temperature, top_p, top_k and seed.
    """

    token_ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    repetition_penalty: float
    presence_penalty: float
    stops: Stops
    frequency_penalty: float = 0.0
    logprobs: bool = False
    json_schema: str | None = None

    @property
    def greedy(self) -> bool:
        """Temperature 0 and top_k 1 both mean: always the likeliest token."""
        return self.temperature == 0.0 or self.top_k == 1


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt as the model that answers would read it."""

    served_by: str
    token_ids: tuple[int, ...]
    spellings: tuple[bytes, ...]
    """What each token stands for; joined, the text that was tokenized. One may be a part of a character."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer and how likely the model found it, before any sampling rule, as a natural logarithm."""

    piece: bytes
    """What the token adds to the text; never empty, maybe a part of a character."""
    logprob: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one answer: whole characters of text, and how many tokens it took.

    `finish` is set on the last delta of its choice and on no other.
    """

    text: str
    token_count: int
    finish: FinishReason | None = None
    index: int = 0
    """Which of the call's `n` choices this belongs to."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """The tokens whose texts end in `text`, if the call asked for them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, counted with the served model's tokenizer and engine."""

    input_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Defaults:
    """A model's own sampling values, used where the caller gave none."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    max_tokens: int


class Template(Protocol):
    """How one model wants its prompts written; one object per model, used for serving and for training."""

    def render(self, prompt: Prompt) -> str:
        """The exact text to tokenize for `prompt`."""
        ...

    @property
    def stops(self) -> Stops:
        """Where an answer under this template must end, besides the model's end tokens."""
        ...

    @property
    def takes_tools(self) -> bool:
        """Whether tools, calls of them and their results can be written; if not, no prompt with them arrives here."""
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """One settled call as the ledger keeps it; what `dashbelle usage --json` prints. Times are UTC."""

    request_id: str
    key: str
    model: str
    served_model: str
    input_tokens: int
    output_tokens: int
    end_reason: EndReason
    started_at: datetime
    ended_at: datetime


class LimitScope(StrEnum):
    """Whose calls a limit counts together."""

    KEY = "key"
    MODEL = "model"


HUNDREDTHS = 100
"""In what a share is kept: whole numbers only."""


class LimitKind(StrEnum):
    """What a limit bounds."""

    REQUESTS_PER_MINUTE = "rpm"
    TOKENS_PER_MINUTE = "tpm"
    CONCURRENT_CALLS = "concurrent"
    SHARE = "share"
    """Not a bound, but a key's weight in the waiting line."""
    TOKENS = "tokens"
    """With MONEY, a budget: used up over a period."""
    MONEY = "money"


class BudgetPeriod(StrEnum):
    """After what a budget is full again: a UTC day, a UTC month, or never."""

    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Limit:
    """What the calls of one key, or for one model, may use at most."""

    scope: LimitScope
    name: str | None
    """Of the key or the model, as callers ask for it. None: each one for itself that has no limit of this kind."""
    kind: LimitKind
    amount: int
    """Calls, tokens, hundredths of a share, or billionths of the currency."""
    period: BudgetPeriod | None = None
    """Of a budget; None for the other kinds."""
    key_id: int | None = None
    """Of the live key of that name, if there is one."""
