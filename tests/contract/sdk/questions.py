"""What the cases ask, and what echo must therefore answer."""

from __future__ import annotations

SENTENCE = "你好,世界 😀 " + "海上生明月,天涯共此时。🌊 " * 20
PROMPT = f"Human:{SENTENCE}\n\nAssistant:"
MESSAGES = [{"role": "user", "content": "你好 😀"}]
RENDERED = "Human:你好 😀\n\nAssistant:"
"""MESSAGES in BELLE's form, which is echo's."""
