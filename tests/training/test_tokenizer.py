import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import UserError
from training.tokenizer import SMALLEST, Tokenizer, train_tokenizer

TEXTS = ["left", "right", "jump", "stay", "red roaming", "blue calm"] * 4
TOKENIZER = train_tokenizer(TEXTS, 300)


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_comes_back_but_for_white_space(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == " ".join(text.split())


def test_a_word_of_the_corpus_is_one_token_wherever_it_stands() -> None:
    assert len(TOKENIZER.encode("jump")) == 1
    assert TOKENIZER.encode("left jump") == TOKENIZER.encode("left") + TOKENIZER.encode("jump")


def test_control_tokens_cannot_be_written_by_hand() -> None:
    control = set(TOKENIZER.specials.model_dump().values())
    assert len(control) == 5
    assert not control & set(TOKENIZER.encode("<eos> <bof> <pad>"))
    assert TOKENIZER.decode(TOKENIZER.encode("<eos>")) == "<eos>"
    assert TOKENIZER.decode([TOKENIZER.specials.bof, *TOKENIZER.encode("jump")]) == "jump"


def test_many_texts_at_once_are_the_same_as_one_by_one() -> None:
    texts = ["left", "", "  ", "a word it never saw"]
    assert TOKENIZER.encode_all(texts) == [TOKENIZER.encode(text) for text in texts]


def test_the_order_of_the_texts_does_not_matter() -> None:
    assert train_tokenizer(reversed(TEXTS), 300).sha256 == TOKENIZER.sha256
    assert train_tokenizer([*TEXTS, "paint"], 300).sha256 != TOKENIZER.sha256


def test_it_is_stored_and_read_back(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json", TOKENIZER.sha256)
    with pytest.raises(UserError, match="not the tokenizer that this run began with"):
        Tokenizer.load(tmp_path / "tokenizer.json", "0" * 64)
    assert again.sha256 == TOKENIZER.sha256
    assert again.encode("jump left") == TOKENIZER.encode("jump left")


def test_users_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 261"):
        train_tokenizer(TEXTS, SMALLEST - 1)
    with pytest.raises(UserError, match=r"missing\.json is no readable"):
        Tokenizer.load(tmp_path / "missing.json")
    foreign = json.loads(TOKENIZER.to_json())
    foreign["added_tokens"] = []
    foreign["model"]["vocab"].pop("<eos>")
    for text in ("", "{}", "[1]", "\xff", json.dumps(foreign)):
        (tmp_path / "tokenizer.json").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match=r"tokenizer\.json is no readable"):
            Tokenizer.load(tmp_path / "tokenizer.json")
