"""What a tokenizer does has one hash, however it came here; what does something else has another."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers.models.byt5.tokenization_byt5 import ByT5Tokenizer

from localize.models.tokenizer import tokenizer_hash
from localize.train.texts import train_tokenizer

TEXTS = ["the cat sat on the mat, and the dog sat on the log"] * 5


def test_a_model_without_one_has_none():
    assert tokenizer_hash(None) is None


def test_it_is_the_same_after_saving_and_after_any_call(tokenizer, tmp_path):
    before = tokenizer_hash(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer_hash(loaded) == before
    loaded.pad_token = "a"
    loaded(["a", "a cat on the mat"], padding=True, truncation=True, max_length=3)
    assert json.loads(loaded.backend_tokenizer.to_str())["truncation"]["max_length"] == 3  # it remembers the call
    assert tokenizer_hash(loaded) == before


def test_another_text_to_learn_from_gives_another():
    assert tokenizer_hash(train_tokenizer(TEXTS, 270)) == tokenizer_hash(train_tokenizer(TEXTS, 270))
    assert tokenizer_hash(train_tokenizer(TEXTS, 270)) != tokenizer_hash(train_tokenizer(TEXTS, 269))


@pytest.mark.parametrize("part", ["vocab", "merges", "pre_tokenizer", "normalizer", "decoder"])
def test_every_part_of_a_fast_one_counts(part):
    tokenizer = train_tokenizer(TEXTS, 270)
    about = json.loads(tokenizer.backend_tokenizer.to_str())
    model = about["model"]
    if part == "vocab":
        first, second = list(model["vocab"])[:2]
        model["vocab"][first], model["vocab"][second] = model["vocab"][second], model["vocab"][first]
    elif part == "merges":
        model["merges"] = model["merges"][:-1]
    else:
        about[part] = {"type": "Lowercase"} if part == "normalizer" else None
    before = tokenizer_hash(tokenizer)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(about))
    assert tokenizer_hash(tokenizer) != before


def test_how_text_is_cleaned_up_counts():
    tokenizer = train_tokenizer(TEXTS, 270)
    before = tokenizer_hash(tokenizer)
    tokenizer.clean_up_tokenization_spaces = not tokenizer.clean_up_tokenization_spaces
    assert tokenizer_hash(tokenizer) != before


class Bytes:
    """A tokenizer of one's own."""

    shift = 0

    def __call__(self, text, **options):
        return {"input_ids": [byte + self.shift for byte in text.encode()]}

    def decode(self, tokens):
        return bytes(token - self.shift for token in tokens).decode(errors="replace")


class OtherBytes(Bytes):
    """The same by another name."""


def test_one_in_python_is_told_by_class_vocabulary_and_what_it_does():
    shifted = Bytes()
    shifted.shift = 1
    hashes = [tokenizer_hash(one) for one in (Bytes(), Bytes(), shifted, OtherBytes())]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert tokenizer_hash(ByT5Tokenizer()) == tokenizer_hash(ByT5Tokenizer())
    assert tokenizer_hash(ByT5Tokenizer()) != tokenizer_hash(ByT5Tokenizer(extra_ids=100))
