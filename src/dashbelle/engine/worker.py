"""The Engine whose computing happens in a process of its own, so that its death costs only its running calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from dashbelle.engine.base import Tokenizer
from dashbelle.engine.frames import Add
from dashbelle.engine.logprobs import LogprobAligner
from dashbelle.engine.supervisor import Supervisor
from dashbelle.engine.tokens import Assembler
from dashbelle.vocabulary import AdmittedPrompt, Delta


class WorkerEngine:
    """A tokenizer here, the weights there: text rules stay with us, so that they are equal on every backend."""

    follows_schemas = True

    def __init__(
        self, supervisor: Supervisor, tokenizer: Tokenizer, *, context_tokens: int, eos_token_ids: Sequence[int]
    ) -> None:
        self.tokenizer = tokenizer
        self.context_tokens = context_tokens
        self._supervisor = supervisor
        self._eos_token_ids = list(eos_token_ids)

    @property
    def restarts(self) -> int:
        """How often the process was started again."""
        return self._supervisor.restarts

    async def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        """Send the prompt's ids, yield what comes back as text; leaving early cancels it in the process.

        Raises ModelUnavailable while no process can be had, EngineFailed, EngineDied, EngineStalled or SchemaRefused
        later.
        """
        assembler = Assembler(self.tokenizer, prompt.stops)
        aligner = LogprobAligner(self.tokenizer) if prompt.logprobs else None
        async with self._supervisor.running(self._command(prompt)) as answer:
            while True:
                token_ids, logprobs, finish = await answer.next()
                delta = assembler.push(token_ids, finish)
                if aligner is not None:
                    delta = aligner.align(delta, token_ids, logprobs)
                yield delta
                if delta.finish is not None:
                    return

    def unready(self) -> str | None:
        """Why the process cannot serve at the moment; None when it can."""
        return self._supervisor.unready()

    async def close(self) -> None:
        """End the process; calls that still wait get EngineDied."""
        await self._supervisor.close()

    def _command(self, prompt: AdmittedPrompt) -> Add:
        return Add(
            call=0,
            token_ids=list(prompt.token_ids),
            eos_token_ids=self._eos_token_ids,
            max_tokens=prompt.max_tokens,
            greedy=prompt.greedy,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            top_k=prompt.top_k,
            seed=prompt.seed,
            repetition_penalty=prompt.repetition_penalty,
            presence_penalty=prompt.presence_penalty,
            frequency_penalty=prompt.frequency_penalty,
            logprobs=prompt.logprobs,
            json_schema=prompt.json_schema,
        )
