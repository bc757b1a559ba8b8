"""The only reader of the environment and of dashbelle.toml: one frozen Settings, handed to everybody else."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

PREFIX = "DASHBELLE_"
FILE_NAME = "dashbelle.toml"
Source = Literal["default", "dashbelle.toml", "environment", "flag"]


class BadSetting(Exception):
    """A setting that cannot be used; its text is one line that names the setting, the value and the rule."""


class Settings(BaseSettings):
    """Every knob of the service. docs/settings.md explains each; a test keeps that page complete."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Path = Field(description="Folder of the database, the secret pepper and the caches.")
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    models: tuple[str, ...] = Field(
        ("belle-llama-13b-2m-v1", "smollm2-135m-instruct"), min_length=1, description="Names of the models to serve."
    )
    stand_in: bool = Field(
        True, description="Answer for BELLE with the packaged model while BELLE's weights are absent (loopback only)."
    )
    database_url: str | None = Field(
        None, repr=False, description="SQLAlchemy URL of the database; unset: a SQLite file in the home."
    )
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="Largest request body, in bytes.")
    request_timeout_s: float = Field(
        300.0, gt=0, description="Longest time from a call's arrival to its end, in seconds."
    )
    slots: int = Field(16, ge=1, le=1024, description="Answers that one model computes at the same time.")
    queue_places: int = Field(256, ge=0, description="Calls that may wait for a slot, per model, before 429.")
    queue_places_per_key: int | None = Field(
        None, ge=0, description="Calls of one key that may wait for a slot, per model; none: as many as wait in all."
    )
    drain_s: float = Field(30.0, ge=0, description="How long running calls may finish after Ctrl-C, in seconds.")
    kv_cache_mib: int = Field(1024, ge=64, description="Memory for the engine's attention cache, per model, in MiB.")
    batch_tokens: int = Field(512, ge=16, description="Most tokens that the engine computes in one step.")
    engine_threads: int = Field(0, ge=0, description="CPU threads of the engine; 0: as many as there are cores.")
    engine_stall_s: float = Field(
        10.0,
        gt=0,
        description="No progress for this long, with work present, ends and restarts the engine; in seconds.",
    )
    log_format: Literal["auto", "pretty", "json"] = Field("auto", description="auto: pretty on a terminal, else JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load` merges the sources itself, so that it can say where each value came from."""
        return (init_settings,)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    @property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'dashbelle.db'}"


@dataclass(frozen=True)
class Loaded:
    """Settings, and for each field where its value came from."""

    settings: Settings
    sources: Mapping[str, Source]


def default_home() -> Path:
    """The platform's user data folder for dashbelle."""
    return Path(platformdirs.user_data_dir("dashbelle", appauthor=False))


def load(flags: Mapping[str, Any] | None = None) -> Loaded:
    """Merge defaults < <home>/dashbelle.toml < DASHBELLE_* < flags (None: flag not given).

    Raises BadSetting on an unknown key, an unreadable file or a value out of range.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    environment = _environment()
    home = Path(given.get("home") or environment.get("home") or default_home()).expanduser().absolute()
    file = _file(home / FILE_NAME)
    if "home" in file:
        raise BadSetting(f"{FILE_NAME}: 'home' cannot be set in the file that lies in it; use {PREFIX}HOME")
    layers: tuple[tuple[Source, Mapping[str, Any]], ...] = (
        ("dashbelle.toml", file),
        ("environment", environment),
        ("flag", given),
    )
    values: dict[str, Any] = {}
    sources: dict[str, Source] = dict.fromkeys(Settings.model_fields, "default")
    for source, layer in layers:
        values.update(layer)
        sources.update(dict.fromkeys(layer, source))
    try:
        settings = Settings(**{**values, "home": home})
    except ValidationError as error:
        raise BadSetting(_one_line(error, sources)) from None
    return Loaded(settings, sources)


def _environment() -> dict[str, Any]:
    """The DASHBELLE_* variables by field name. An empty variable counts as not set."""
    for variable in os.environ:
        if variable.startswith(PREFIX):
            _known(variable.removeprefix(PREFIX).lower(), f"{variable} in the environment", prefix=PREFIX)
    source = EnvSettingsSource(Settings, env_prefix=PREFIX, env_ignore_empty=True)
    try:
        return source()
    except SettingsError as error:
        raise BadSetting(f"environment: {error} (a list is written as JSON, e.g. '[\"echo\"]')") from None


def _file(path: Path) -> dict[str, Any]:
    """What dashbelle.toml says; a missing file says nothing."""
    try:
        values = TomlConfigSettingsSource(Settings, toml_file=path)()
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path}: {error}") from None
    for name in values:
        _known(name, f"'{name}' in {path}")
    return values


def _known(name: str, where: str, prefix: str = "") -> None:
    if name in Settings.model_fields:
        return
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f"; did you mean {prefix}{near[0].upper() if prefix else near[0]}?" if near else ""
    raise BadSetting(f"unknown setting {where}{hint}")


def _one_line(error: ValidationError, sources: Mapping[str, Source]) -> str:
    problem = error.errors(include_url=False, include_context=False)[0]
    name = str(problem["loc"][0])
    value = "" if Settings.model_fields[name].repr is False else f"={problem['input']!r}"
    return f"setting {name}{value} ({sources[name]}): {problem['msg']}"
