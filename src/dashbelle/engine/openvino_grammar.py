"""Grammars for the OpenVINO backend: a vocabulary that the library can compile them for, and a place to try them.

The library compiles a grammar inside the step that samples the first token, and one that it refuses throws there: the
step's other answers would be lost with it. So each is tried first on a model of no weights that shares the vocabulary,
and with it the compiled grammars.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
from openvino import opset13 as ops

from dashbelle.engine.schema_grammar import grammar_of
from dashbelle.errors import SchemaRefused

MAX_KEPT = 256
"""The library keeps every grammar that it has compiled, each some 100 kB; after so many, all are given up."""
_ANYTHING = 'root ::= "a"'
_END = 0
"""An id to end the trials with; none is ever produced."""


class Grammars:
    """What the library needs to know of one vocabulary: `tokenizer` is to be given to the pipeline.

    `vocabulary` holds what each id adds to an answer. Ids that add nothing can never be part of a JSON text. Without
    one every schema is refused.
    """

    def __init__(self, vocabulary: Sequence[bytes]) -> None:
        self._is_blind = not vocabulary
        vocabulary = vocabulary or [b""]
        with tempfile.TemporaryDirectory(prefix="dashbelle-vocabulary-") as folder:
            openvino.save_model(_detokenizer(vocabulary), Path(folder) / "openvino_detokenizer.xml")
            self.tokenizer = openvino_genai.Tokenizer(folder)
            self._trial = _trial_pipeline(self.tokenizer, len(vocabulary), Path(folder))
            # Grammars are compiled for one number of logits at a time: another number makes the library start anew.
            self._reset = _trial_pipeline(self.tokenizer, len(vocabulary) + 1, Path(folder))
        self._known: dict[str, str] = {}

    def config(self, json_schema: str) -> openvino_genai.StructuredOutputConfig:
        """The form in which a call's configuration takes a schema. Raises SchemaRefused."""
        if self._is_blind:
            raise SchemaRefused
        if json_schema not in self._known:
            self._learn(json_schema, grammar_of(json_schema))
        return openvino_genai.StructuredOutputConfig(grammar=self._known[json_schema])

    def _learn(self, json_schema: str, grammar: str) -> None:
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
            _try(self._reset, _ANYTHING)
        try:
            _try(self._trial, grammar)
        except RuntimeError:
            raise SchemaRefused from None
        self._known[json_schema] = grammar


def _try(pipeline: openvino_genai.LLMPipeline, grammar: str) -> None:
    """Compile `grammar` and ask for one token. Raises RuntimeError."""
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = 1
    config.set_eos_token_id(_END)
    config.structured_output_config = openvino_genai.StructuredOutputConfig(grammar=grammar)
    pipeline.generate(openvino.Tensor(np.array([[_END]], dtype=np.int64)), config)


def _detokenizer(vocabulary: Sequence[bytes]) -> openvino.Model:
    """The least model from which the library reads what each id stands for; it detokenizes nothing.

    The library looks for an operation of this name whose second to fourth inputs are where each piece begins, where it
    ends, and the bytes of all (read_vocab_from_detokenizer_model in its tokenizer_impl.cpp).
    """
    ends = np.cumsum([len(piece) for piece in vocabulary], dtype=np.int32)
    begins = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    pieces = np.frombuffer(b"".join(vocabulary), np.uint8).astype(np.int32)
    ids = ops.parameter([-1, -1], np.int64)
    flat = ops.reshape(ops.convert(ids, "i32"), ops.constant(np.array([-1])), special_zero=False)
    reader = ops.concat([flat, ops.constant(begins), ops.constant(ends), ops.constant(pieces)], 0)
    reader.set_friendly_name("VocabDecoder")
    model = openvino.Model([reader], [ids], "vocabulary")
    model.set_rt_info(openvino_genai.__version__, "openvino_genai_version")
    return model


def _trial_pipeline(tokenizer: openvino_genai.Tokenizer, logits: int, folder: Path) -> openvino_genai.LLMPipeline:
    """A model that finds each of its `logits` tokens equally likely and computes nothing."""
    ids = _named_input("input_ids", [-1, -1], np.int64)
    mask = _named_input("attention_mask", [-1, -1], np.int64)
    beams = _named_input("beam_idx", [-1], np.int32)
    shape = ops.concat([ops.shape_of(ids, "i64"), ops.constant(np.array([logits], np.int64))], 0)
    result = ops.result(ops.broadcast(ops.constant(np.float32(0)), shape))
    result.output(0).set_names({"logits"})
    openvino.save_model(openvino.Model([result], [ids, mask, beams], "trial"), folder / "openvino_model.xml")
    return openvino_genai.LLMPipeline(folder, tokenizer, "CPU", ATTENTION_BACKEND="SDPA")


def _named_input(name: str, shape: list[int], kind: type[np.generic]) -> openvino.Node:
    parameter = ops.parameter(shape, kind)
    parameter.output(0).set_names({name})
    return parameter
