"""A model's files: a local folder, named by what is in it, or a commit of a Hugging Face
repository that was fetched before. Nothing is downloaded here."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from corpus.errors import UserError
from corpus.ids import content_id, sha256_file

HASHING_THREADS = 8
_HUB = re.compile(r"^[\w.-]+/[\w.-]+$", re.ASCII)
_COMMIT = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True)
class Weights:
    """Which files.

    Attributes:
        model: folder, or id of a repository.
        revision: commit of the repository; None for a folder.
        name: what captions are signed with: the model, and the commit or the folder's content.
    """

    model: str
    revision: str | None
    name: str

    @staticmethod
    def of(model: str, revision: str | None) -> "Weights":
        """What a recipe names.

        Raises:
            UserError: it names nothing that stays the same.
        """
        if not model:
            raise UserError(
                "captions: name a model: a local folder or id and commit of a Hugging Face "
                "repository, e.g. captions.vllm.model=Qwen/Qwen2.5-VL-7B-Instruct and .revision"
            )
        folder = Path(model).expanduser()
        if folder.is_dir():
            if revision is not None:
                raise UserError(
                    f"captions: {model} is a local folder, named by its content: leave out revision"
                )
            return Weights(
                str(folder.resolve()), None, f"{folder.resolve().name}@{content(folder)}"
            )
        if not _HUB.match(model):
            raise UserError(f"captions: there is no folder {model}, nor is it a repository's id")
        if revision is None or not _COMMIT.match(revision):
            raise UserError(
                f"captions: {model} needs revision, the 40 digits of a commit of that repository: "
                "a branch or tag may be another model tomorrow"
            )
        return Weights(model, revision, f"{model}@{revision}")

    def folder(self) -> Path:
        """Where the files are on this machine.

        Raises:
            UserError: they are not there, or not the ones that were named.
        """
        if self.revision is not None:
            return self._cached()
        folder = Path(self.model)
        if not folder.is_dir():
            raise UserError(f"captions: the folder {folder} is not on this machine")
        if not self.name.endswith(f"@{content(folder)}"):
            raise UserError(
                f"captions: the files in {folder} are not those that {self.name} was named by: "
                "they differ between machines, or were changed during the run"
            )
        return folder

    def _cached(self) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            found = snapshot_download(self.model, revision=self.revision, local_files_only=True)
        except LocalEntryNotFoundError as error:
            raise UserError(
                f"captions: {self.name} is not on this machine; fetch it once: "
                f"hf download {self.model} --revision {self.revision}"
            ) from error
        return Path(found)


def content(folder: Path) -> str:
    """Name of a model's folder: of the bytes of all its files but hidden ones and notes."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix.lower() != ".md"
    )
    if not any(path.name == "config.json" for path in files):
        raise UserError(f"captions: {folder} holds no model: there is no config.json")
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        hashes = list(pool.map(lambda state: _sha256(*state), states))
    names = [str(path.relative_to(folder)) for path in files]
    return content_id("model", list(zip(names, hashes, strict=True)))


@lru_cache(maxsize=4096)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    """Of a file in this state: gigabytes are read once per process."""
    return sha256_file(Path(path))
