"""The command line called as a shell calls it, on a small checkpoint and a few paragraphs."""

import json

import pytest
import torch

ROWS = torch.randint(97, (12, 32), generator=torch.Generator().manual_seed(1)).tolist()
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder with a small random GPT-Neo, without a tokenizer."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    torch.manual_seed(0)
    size = {
        "vocab_size": 97,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "max_position_embeddings": 64,
        "window_size": 8,
    }
    config = GPTNeoConfig(**size, attention_types=[[["global", "local"], 1]], bos_token_id=None, eos_token_id=None)
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    GPTNeoForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / name).write_text(content, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture
def good(write):
    """Twelve paragraphs of 32 tokens in two groups, one of them with a hostile name."""
    return write(
        "good.jsonl",
        [{"tokens": row, "group": "a" if i % 2 else SCRIPT, "id": f"{i}{SCRIPT}"} for i, row in enumerate(ROWS)],
    )


@pytest.fixture
def recited(checkpoint, tmp_path):
    """Sixteen paragraphs, of which the model says twelve itself, and a file of other text."""
    import localize as lz

    model = lz.load_model(checkpoint)
    tokens = torch.randint(97, (24, 32), generator=torch.Generator().manual_seed(4))
    tokens[:12, 16:] = model.continue_greedily(tokens[:12, :16], 16)
    for name, rows in (("recited", tokens[:16]), ("general", tokens[16:])):
        lines = [json.dumps({"tokens": row, "id": f"{name} {i}"}) for i, row in enumerate(rows.tolist())]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "recited.jsonl"
