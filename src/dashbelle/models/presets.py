"""What is known of each model by name: its sampling defaults and where they come from."""

from __future__ import annotations

from dashbelle.vocabulary import Defaults

BELLE = "belle-llama-13b-2m-v1"
STAND_IN = "smollm2-135m-instruct"
ECHO = "echo"

DEFAULTS = {
    # The LLaMA-13B-2M model card; 512 new tokens instead of its 500.
    BELLE: Defaults(temperature=0.5, top_p=0.85, top_k=30, repetition_penalty=1.0, max_tokens=512),
    # SmolLM2's card says temperature 0.2, top_p 0.9; the penalty keeps so small a model from repeating itself.
    STAND_IN: Defaults(temperature=0.2, top_p=0.9, top_k=0, repetition_penalty=1.1, max_tokens=512),
    ECHO: Defaults(temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0, max_tokens=65_536),
}
