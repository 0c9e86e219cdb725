"""Text as tokens: a byte-level BPE trained from the corpus' own captions, for small runs.

Special tokens are ids only: a caption that happens to contain "<eos>" is read as those five
characters, never as the control token. White space inside a text is normalised (a caption is one
line of words), so ``decode(encode(text)) == " ".join(text.split())``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from corpus.errors import UserError
from corpus.files import write_text
from corpus.ids import sha256_bytes
from training.sequence import Specials

PAD, DROP, BOF, EOF, EOS = "<pad>", "<drop>", "<bof>", "<eof>", "<eos>"
SPECIAL = (PAD, DROP, BOF, EOF, EOS)
SMALLEST = len(SPECIAL) + 256  # every byte is a token, so no text is ever unknown


class Tokenizer:
    """Words to ids and back, with the control ids of the interleaved sequence.

    Attributes:
        specials: control ids.
        size: number of ids.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        ids = [inner.token_to_id(name) for name in SPECIAL]
        missing = [name for name, found in zip(SPECIAL, ids, strict=True) if found is None]
        if missing:
            raise UserError(f"tokenizer has no {', '.join(missing)}: it was not made by tv2tv")
        self._inner = inner
        self._inner.encode_special_tokens = True
        pad, drop, bof, eof, eos = (each for each in ids if each is not None)
        self.specials = Specials(pad=pad, drop=drop, bof=bof, eof=eof, eos=eos)
        self.size: int = inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without control tokens; [] for a text of white space."""
        words = " ".join(text.split())
        return self._inner.encode(words, add_special_tokens=False).ids if words else []

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        words = [" ".join(text.split()) for text in texts]
        found = self._inner.encode_batch(words, add_special_tokens=False)
        return [each.ids if text else [] for each, text in zip(found, words, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; control tokens are left out."""
        return self._inner.decode(list(ids), skip_special_tokens=True).strip()

    def to_json(self) -> str:
        """What its tokenizer.json holds."""
        return self._inner.to_str(pretty=True) + "\n"

    @property
    def sha256(self) -> str:
        """Of the tokenizer.json; a run carries it."""
        return sha256_bytes(self.to_json().encode())

    def save(self, path: Path) -> None:
        write_text(path, self.to_json())

    @staticmethod
    def load(path: Path, sha256: str | None = None) -> "Tokenizer":
        """Read a tokenizer.json.

        Args:
            sha256: what its bytes must have.

        Raises:
            UserError: the file is missing, is none of ours, or is another one.
        """
        try:
            data = path.read_bytes()
            made = Tokenizer(tokenizers.Tokenizer.from_str(data.decode()))
        except Exception as error:  # the library raises nothing more special
            raise UserError(f"{path} is no readable tokenizer.json: {error}") from error
        if sha256 not in (None, sha256_bytes(data)):
            raise UserError(
                f"{path} is not the tokenizer that this run began with: put that one back"
            )
        return made


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a BPE of at most ``size`` ids on the captions of a corpus.

    Deterministic: the same multiset of texts gives the same file. A word gets its leading space, so
    a word is the same token wherever in a caption it stands.

    Args:
        size: upper bound of ids, control tokens and the 256 bytes included; UserError below 261.
    """
    if size < SMALLEST:
        raise UserError(f"tokenizer.size={size} cannot hold the bytes: choose at least {SMALLEST}")
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(sorted(" ".join(text.split()) for text in texts), trainer)
    return Tokenizer(inner)
