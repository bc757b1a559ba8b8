"""GGUF heads: read as the format's own package reads them, and refused, never crashed on, when they are broken."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashbelle.models.gguf_file import ModelCard, UnreadableModel, read_card
from dashbelle.models.gguf_metadata import BadGguf, read_metadata

TOKENS = ["<end>", "a", "b", "ab", "Ġ"]


def write(path: Path, *, architecture: str = "llama", model: str = "gpt2", pre: str = "smollm") -> Path:
    """A small GGUF with a vocabulary and no tensors."""
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(2048)
    writer.add_name("Tiny")
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(value=False)
    writer.add_chat_template("{{ messages[0].content }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_every_field_is_read_as_the_formats_own_package_reads_it(tiny: Path) -> None:
    reader = GGUFReader(tiny)
    expected = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert read_metadata(tiny) == expected


def test_a_card_holds_what_serving_needs(tiny: Path, tmp_path: Path) -> None:
    card = read_card(tiny, tmp_path)
    assert (card.architecture, card.name, card.context_tokens, card.eos_token_ids) == ("llama", "Tiny", 2048, [0])
    assert card.chat_template == "{{ messages[0].content }}"


def test_a_kept_card_is_used_until_the_file_changes(tmp_path: Path) -> None:
    file, cache = write(tmp_path / "m.gguf"), tmp_path / "cache"
    first = read_card(file, cache)
    (kept,) = cache.glob("*.card.json")
    kept.write_bytes(kept.read_bytes().replace(b"Tiny", b"Kept"))
    assert read_card(file, cache).name == "Kept"
    kept.write_bytes(b"broken")
    assert read_card(file, cache) == first
    file.write_bytes(file.read_bytes() + b"\0")
    kept.write_bytes(b"never looked at again")
    assert read_card(file, cache) == first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "gptneox"}, "architecture 'gptneox'"),
        ({"model": "llama"}, "'llama' vocabulary"),
        ({"pre": "mystery"}, "rules of 'mystery'"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_its_name(changes: dict[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match=reason):
        read_card(write(tmp_path / "m.gguf", **changes), tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too short"),
        (b"PK\x03\x04" + b"\0" * 40, "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version is 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims 9223372036854775808 fields"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**32), "middle of a field"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IIQ", 9, 4, 2**40), "array of"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<IQ", 8, 1) + b"\xff", "no UTF-8"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 8,
            "nested too deeply",
        ),
    ],
)
def test_a_broken_head_is_refused_with_its_fault(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(UnreadableModel, match=f"no readable GGUF file: .*{reason}"):
        read_card(tmp_path / "broken.gguf", tmp_path / "cache")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnreadableModel, match=r"llama\.context_length"):
        read_card(tmp_path / "m.gguf", tmp_path / "cache")


@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_mutation_of_a_file_is_more_than_refused(data: st.DataObject, tiny: Path, tmp_path: Path) -> None:
    content = bytearray(tiny.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 8))
        value: Any = data.draw(st.sampled_from([0, 1, 0xFF, 2**31, 2**32, 2**63, 2**64 - 1]))
        content[place : place + 8] = struct.pack("<Q", value)
    content = content[: data.draw(st.integers(len(content) // 2, len(content)))]
    (tmp_path / "mutant.gguf").write_bytes(content)
    try:
        fields = read_metadata(tmp_path / "mutant.gguf")
    except BadGguf:
        return
    assert isinstance(fields, dict)
    try:
        assert isinstance(read_card(tmp_path / "mutant.gguf", tmp_path / "cache"), ModelCard)
    except UnreadableModel:
        return
