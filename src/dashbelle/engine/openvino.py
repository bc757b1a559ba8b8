"""Backend: OpenVINO GenAI's continuous batching on the CPU; runs only inside an engine process."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from dashbelle.engine.frames import Add, Load, Piece
from dashbelle.engine.openvino_grammar import Grammars

COMPILED = "openvino_model.xml"


class OpenVinoBackend:
    """One model under `openvino_genai.ContinuousBatchingPipeline`, fed with token ids alone.

    Raises RuntimeError when the weights cannot be read or do not fit.
    """

    def __init__(self, load: Load) -> None:
        self._answers: dict[int, _Answer] = {}
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = max(1, round(load.kv_cache_mib / 1024))
        scheduler.max_num_seqs = load.slots
        scheduler.max_num_batched_tokens = load.batch_tokens
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = True
        properties = {"INFERENCE_NUM_THREADS": load.threads} if load.threads else {}
        self._grammars = Grammars(load.vocabulary)
        self._pipeline = _pipeline(
            load,
            lambda path, **more: openvino_genai.ContinuousBatchingPipeline(
                path, self._grammars.tokenizer, scheduler, "CPU", **properties, **more
            ),
        )

    def add(self, command: Add) -> None:
        """Begin an answer; the library checks the values and raises RuntimeError. Raises SchemaRefused."""
        ids = openvino.Tensor(np.array([command.token_ids], dtype=np.int64))
        handle = self._pipeline.add_request(command.call, ids, self._config(command))
        self._answers[command.call] = _Answer(handle, command.logprobs)

    def cancel(self, call: int) -> None:
        """Drop the answer at the next step."""
        answer = self._answers.pop(call, None)
        if answer is not None:
            answer.handle.cancel()

    @property
    def busy(self) -> bool:
        """Whether any answer is unfinished."""
        return bool(self._pipeline.has_non_finished_requests())

    def step(self) -> list[Piece]:
        """Compute one batch and drain every handle."""
        self._pipeline.step()
        pieces = []
        for call, answer in list(self._answers.items()):
            piece = answer.drain(call)
            if piece.finish is not None:
                del self._answers[call]
            if piece.finish is not None or piece.token_ids:
                pieces.append(piece)
        return pieces

    def _config(self, command: Add) -> Any:  # noqa: ANN401 - the library is untyped
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = command.max_tokens
        # Without an end token of its own the library finds -1 among the stop ids and refuses the request.
        config.set_eos_token_id(command.eos_token_ids[0] if command.eos_token_ids else 0)
        config.stop_token_ids = {config.eos_token_id, *command.eos_token_ids}
        config.ignore_eos = not command.eos_token_ids
        config.repetition_penalty = command.repetition_penalty
        config.presence_penalty = command.presence_penalty
        config.frequency_penalty = command.frequency_penalty
        config.logprobs = int(command.logprobs)
        config.do_sample = not command.greedy
        if not command.greedy:
            config.temperature = command.temperature
            config.top_p = command.top_p
            config.rng_seed = command.seed
            if command.top_k:
                config.top_k = command.top_k
        if command.json_schema is not None:
            config.structured_output_config = self._grammars.config(command.json_schema)
        return config


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answer that the library computes."""

    handle: Any
    logprobs: bool

    def drain(self, call: int) -> Piece:
        """What is new."""
        ids: list[int] = []
        logprobs: list[float] = []
        finish: Any = None
        while self.handle.can_read():
            for output in self.handle.read().values():
                ids += output.generated_ids
                if self.logprobs:  # else the library gives zeros, or what its filters left
                    logprobs += output.generated_log_probs
                finish = output.finish_reason
        match finish:
            case openvino_genai.GenerationFinishReason.STOP:
                return Piece(call, ids, "stop", logprobs)
            case openvino_genai.GenerationFinishReason.LENGTH:
                return Piece(call, ids, "length", logprobs)
        if self.handle.get_status() == openvino_genai.GenerationStatus.IGNORED:  # it can never fit into the cache
            return Piece(call, ids, "failed")
        return Piece(call, ids, None, logprobs)


def _pipeline(load: Load, build: Callable[..., Any]) -> Any:  # noqa: ANN401 - the library is untyped
    """The model from the library's own form, which is written on the first use and kept in the cache folder.

    Loading that form takes half the time of reading the GGUF again. The library writes it beside the file that it
    reads, hence the link; the rename makes a half-written folder impossible.
    """
    model, cache = Path(load.model_path), Path(load.cache_folder)
    folder = cache / _cache_name(model)
    if (folder / COMPILED).exists():
        return build(folder)
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="compiling-"))
    try:
        link = scratch / "model.gguf"
        link.symlink_to(model)
        pipeline = build(link, enable_save_ov_model=True)
        link.unlink()
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return pipeline


def _cache_name(model: Path) -> str:
    """A folder name that another file, a changed file or another release of the library does not share."""
    stat = model.stat()
    identity = f"{model}:{stat.st_size}:{stat.st_mtime_ns}:{openvino_genai.__version__}"
    return f"{model.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
