"""Settings of the `server` backend."""

import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from stages.captioning.worded import WordedConfig


class ServerConfig(WordedConfig):
    """
    Attributes:
        address: of the protocol's root, such as ``http://host:8000/v1``.
        revision: of the model, as far as the server's operator says; part of its name.
        dialect: ``vllm`` knows videos, choices and penalties of its own; ``openai`` does not.
        key_env: name of the environment variable that holds the key; empty for none.
        picture, quality: how frames are sent.
        concurrency: questions under way at once, of each of the ``workers``.
        connect, timeout, patience: seconds; see `transport.Limits`.
        per_minute: questions sent per minute and worker, at most; 0 for no limit.
        most_bytes: of one answer.
        price_in, price_out: per million tokens.
        cpus: of one worker, for the frames.
        workers: that read clips and ask.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )
    address: str = ""
    revision: str = ""
    dialect: Literal["vllm", "openai"] = "vllm"
    key_env: str = ""
    picture: Literal["jpeg", "png"] = "jpeg"
    quality: int = Field(default=90, ge=1, le=100)
    concurrency: int = Field(default=16, ge=1, le=1024)  # a thread each
    connect: float = Field(default=10.0, gt=0)
    timeout: float = Field(default=300.0, gt=0)
    patience: float = Field(default=600.0, ge=0)
    per_minute: float = Field(default=0.0, ge=0)
    most_bytes: int = Field(default=2**20, ge=1024)
    price_in: float = Field(default=0.0, ge=0)
    price_out: float = Field(default=0.0, ge=0)
    cpus: float = Field(default=1.0, gt=0)
    workers: int = Field(default=1, ge=1)

    @field_validator("address")
    @classmethod
    def _plain(cls, address: str) -> str:
        parts = urlsplit(address)
        if address and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("must begin with http:// or https:// and name a host")
        try:
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"names no port that there is: {error}") from error
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, key or question: key_env names where a key is")
        return address.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _name(cls, name: str) -> str:
        if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("is the name of an environment variable, never the key itself")
        return name

    @model_validator(mode="after")
    def _spoken(self) -> Self:
        if self.dialect == "openai" and self.show == "video":
            raise ValueError("show: the dialect openai has no videos: choose images")
        if self.dialect == "openai" and self.decoding.repetition_penalty != 1:
            raise ValueError("repetition_penalty: the dialect openai knows frequency_penalty only")
        if self.show == "video" and self.picture != "jpeg":
            raise ValueError("picture: frames of a video are sent as jpeg")
        return self
