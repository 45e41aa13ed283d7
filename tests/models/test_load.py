import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from localize.errors import ModelError
from localize.models.folding import folded
from localize.models.hooks import HookedModel
from localize.models.load import load_model

WEIGHTS = "model.safetensors"


def saved(model, folder):
    model.hf.save_pretrained(folder)
    return folder


@pytest.fixture
def kept(make_model, family):
    """The float32 model that lies in `folder`."""
    return make_model(family, dtype=torch.float32)


@pytest.fixture
def folder(kept, tmp_path):
    """A checkpoint folder of each family by turns."""
    return saved(kept, tmp_path / "checkpoint")


def refusal(source, **options):
    """The one line that says why there is no such model."""
    with pytest.raises(ModelError) as error:
        load_model(source, **options)
    message = str(error.value)
    assert "\n" not in message
    assert message
    return message, error.value.__cause__


def librarys_first_line(cause):
    return str(cause).strip().splitlines()[0]


# What is loaded


@torch.no_grad()
def test_a_folder_of_safetensors_gives_the_model_that_was_saved(folder, kept, tokens):
    model = load_model(folder)
    assert model.family == kept.family
    assert model.weights_hash() == kept.weights_hash()
    assert torch.equal(model(tokens), kept(tokens))
    assert (model.name, model.tokenizer, model.unigram_counts, model.revision) == (str(folder), None, None, None)


def test_a_folders_name_may_be_text_or_a_path(folder):
    assert load_model(str(folder)).weights_hash() == load_model(folder).weights_hash()


def test_a_folder_beside_the_current_one_is_found_by_its_plain_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert load_model("checkpoint").name == "checkpoint"


@torch.no_grad()
def test_a_folder_with_pytorch_model_bin_gives_the_same_model(folder, kept, tokens):
    (folder / WEIGHTS).unlink()
    torch.save(kept.hf.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(load_model(folder)(tokens), kept(tokens))


def test_sharded_weights_are_put_together(kept, tmp_path):
    kept.hf.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert not (tmp_path / "shards" / WEIGHTS).exists()
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    assert load_model(tmp_path / "shards").weights_hash() == kept.weights_hash()


def test_embedding_and_unembedding_are_one_parameter_as_the_config_says(folder):
    hf = load_model(folder).hf
    assert hf.lm_head.weight is hf.transformer.wte.weight


def test_a_bfloat16_checkpoint_is_float32_unless_asked_otherwise(make_model, family, tmp_path):
    rough = make_model(family, dtype=torch.bfloat16)
    model = load_model(saved(rough, tmp_path / "half"))
    assert model.dtype == torch.float32
    assert torch.equal(model.weight(1, "W_in"), rough.weight(1, "W_in").float())
    assert load_model(tmp_path / "half", dtype="bfloat16").weights_hash() == rough.weights_hash()


@pytest.mark.parametrize(
    ("dtype", "given"), [("float64", torch.float64), (torch.float64, torch.float64), ("float16", torch.float16)]
)
def test_weights_come_in_the_dtype_asked_for(folder, dtype, given):
    model = load_model(folder, dtype=dtype)
    assert model.dtype == given
    assert {p.dtype for p in model.hf.parameters()} == {given}


def test_loading_is_ready_to_measure_eager_and_without_dropout(folder):
    hf = load_model(folder, device="cpu").hf
    assert hf.config._attn_implementation == "eager"
    assert not any(module.training for module in hf.modules())


def test_unigram_counts_beside_the_model_come_with_it(folder):
    np.save(folder / "unigram_counts.npy", np.arange(97, dtype=np.uint32))
    counts = load_model(folder).unigram_counts
    assert counts.dtype == torch.int64
    assert torch.equal(counts, torch.arange(97))


# Tokenizers


def test_the_tokenizer_beside_the_model_comes_with_it(folder, tokenizer):
    tokenizer.save_pretrained(folder)
    text = "the dog sat\n<b>on</b> Æthelred"
    loaded = load_model(folder).tokenizer
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text


def test_a_tokenizer_given_is_preferred_to_the_one_beside_the_model(folder, tokenizer):
    tokenizer.save_pretrained(folder)
    assert load_model(folder, tokenizer=tokenizer).tokenizer is tokenizer


def test_a_tokenizer_can_be_loaded_from_another_folder(folder, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "words")
    assert load_model(folder, tokenizer=tmp_path / "words").tokenizer.get_vocab() == tokenizer.get_vocab()


def test_gpt2s_bare_vocab_and_merges_are_a_tokenizer(folder, shared_data):
    if not (shared_data / "tokenizer-gpt2").is_dir():
        pytest.skip(f"no tokenizer-gpt2 in {shared_data}")
    loaded = load_model(folder, tokenizer=str(shared_data / "tokenizer-gpt2")).tokenizer
    assert loaded("Hello world, hello\n\n")["input_ids"] == [15496, 995, 11, 23748, 628]
    assert len(loaded) == 50257


def test_bare_vocab_and_merges_beside_the_model_come_with_it(folder, shared_data):
    if not (shared_data / "tokenizer-gpt2").is_dir():
        pytest.skip(f"no tokenizer-gpt2 in {shared_data}")
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(shared_data / "tokenizer-gpt2" / name, folder / name)
    assert load_model(folder).tokenizer("Hello world")["input_ids"] == [15496, 995]


def test_a_folder_given_as_a_tokenizer_must_hold_one(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    message, _ = refusal(folder, tokenizer=tmp_path / "empty")
    assert (
        message
        == f"tokenizer {tmp_path / 'empty'}: none of tokenizer.json, vocab.json, tokenizer_config.json is there."
    )


def test_a_damaged_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text("{")
    message, cause = refusal(folder)
    assert message == f"tokenizer {folder}: cannot be loaded: {librarys_first_line(cause)}"


# Weights as they were trained, or folded


@torch.no_grad()
def test_a_folders_weights_are_folded_if_asked(folder, kept, tokens):
    assert load_model(folder).weights == load_model(folder, weights="raw").weights == "raw"
    model = load_model(folder, weights="folded", dtype="float64")
    assert (model.weights, model.name, model.dtype) == ("folded", str(folder), torch.float64)
    raw = kept(tokens).log_softmax(-1)
    assert (model(tokens).log_softmax(-1) - raw).abs().max() < 1e-4
    exact = folded(load_model(kept.hf, dtype="float64"))
    assert model.weights_hash() == exact.weights_hash()


@pytest.mark.parametrize("form", [lambda m: m, lambda m: m.hf], ids=["hooked", "transformers"])
def test_a_model_in_memory_is_folded_in_a_copy(model, tokenizer, form):
    before = model.weights_hash()
    loaded = load_model(form(model), weights="folded", dtype="float32", tokenizer=tokenizer)
    assert (loaded.weights, loaded.dtype, loaded.tokenizer) == ("folded", torch.float32, tokenizer)
    assert (model.weights, model.dtype, model.weights_hash()) == ("raw", torch.float64, before)


def test_a_folded_model_in_memory_stays_folded_and_is_not_folded_twice(model):
    known = folded(model)
    hashed = known.weights_hash()
    for weights in (None, "folded"):
        loaded = load_model(known, weights=weights)
        assert (loaded.hf, loaded.weights, loaded.weights_hash()) == (known.hf, "folded", hashed)


def test_a_folded_model_cannot_be_made_raw(model):
    message, _ = refusal(folded(model), weights="raw")
    name = f"small {model.family}"
    assert message == f"weights='raw': {name} is folded, which cannot be undone; load the model it was made of."


def test_an_unknown_processing_is_refused(folder):
    message, _ = refusal(folder, weights="centred")
    assert message == "weights='centred' is not one of raw, folded."


# Models in memory


def test_a_transformers_model_is_shared_not_copied(model):
    loaded = load_model(model.hf)
    assert loaded.hf is model.hf
    assert (loaded.name, loaded.tokenizer, loaded.dtype) == ("in memory", None, torch.float64)
    loaded.weight(0, "W_Q", 1).fill_(5.0)
    assert (model.weight(0, "W_Q", 1) == 5).all()


def test_a_hooked_model_keeps_what_it_knows(model, tokenizer):
    known = HookedModel(model.hf, tokenizer, name="mine", revision="abc", unigram_counts=torch.arange(97))
    loaded = load_model(known)
    assert loaded.hf is known.hf
    assert (loaded.name, loaded.revision, loaded.tokenizer) == ("mine", "abc", tokenizer)
    assert loaded.unigram_counts is known.unigram_counts


def test_a_model_in_memory_can_be_given_a_tokenizer(model, tokenizer):
    assert load_model(model, tokenizer=tokenizer).tokenizer is tokenizer
    assert load_model(model.hf, tokenizer=tokenizer).tokenizer is tokenizer


def test_a_model_in_memory_changes_its_dtype_only_if_asked(model):
    assert load_model(model).dtype == torch.float64
    assert load_model(model, dtype="float32").dtype == torch.float32


def test_a_model_in_training_mode_is_put_into_evaluation_mode(model):
    assert not load_model(model.hf.train()).hf.training


@pytest.mark.parametrize("source", [3, torch.nn.Linear(2, 2)], ids=["a number", "another module"])
def test_something_else_in_memory_is_refused(source):
    message, _ = refusal(source)
    allowed = "GPTNeoForCausalLM and GPT2LMHeadModel (gpt_neo, gpt2) can be localized."
    assert message == f"in memory is a {type(source).__name__} (model_type=None); {allowed}"


def test_a_llama_in_memory_is_refused():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    message, _ = refusal(LlamaForCausalLM(config))
    assert message == (
        "in memory is a LlamaForCausalLM (model_type='llama'); GPTNeoForCausalLM and GPT2LMHeadModel (gpt_neo, gpt2) can be localized."
    )


# What is refused


class Malicious:
    """Unpickled as an object, it would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("where", ["among the tensors", "instead of tensors"])
def test_a_malicious_pickle_is_refused_and_not_run(folder, tmp_path, where):
    (folder / WEIGHTS).unlink()
    trace, evil = tmp_path / "created", Malicious(tmp_path / "created")
    contents = {"transformer.wte.weight": evil} if where == "among the tensors" else evil
    torch.save(contents, folder / "pytorch_model.bin")
    message, cause = refusal(folder)
    assert isinstance(cause, pickle.UnpicklingError)
    assert message.startswith(f"model {folder}: ")
    assert not trace.exists()


def test_the_malicious_pickle_of_these_tests_does_create_a_file_when_it_is_run(tmp_path):
    pickle.loads(pickle.dumps(Malicious(tmp_path / "created"))).close()
    assert (tmp_path / "created").exists()


def test_code_beside_a_model_is_not_run(folder, tmp_path):
    """A config that points to code of its own: `auto_map` is what trust_remote_code would follow."""
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'created')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(folder).n_heads == 4
    assert not (tmp_path / "created").exists()


def test_an_incomplete_checkpoint_is_refused(folder):
    weights = load_file(folder / WEIGHTS)
    kept = {name: value for name, value in weights.items() if "h.1.mlp." not in name}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    message, _ = refusal(folder)
    first = "transformer.h.1.mlp.c_fc.bias"
    assert (
        message == f"model {folder}: 4 weights are missing, the first {first!r}; an incomplete checkpoint is not used."
    )


def test_a_checkpoint_with_one_shard_gone_is_refused(kept, tmp_path):
    kept.hf.save_pretrained(tmp_path, max_shard_size="20KB")
    sorted(tmp_path.glob("model-*.safetensors"))[1].unlink()
    message, cause = refusal(tmp_path)
    assert message == f"model {tmp_path}: cannot be loaded: {librarys_first_line(cause)}"


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"version https://git-lfs.github.com/spec/v1\n", lambda b: b""]
)
def test_a_damaged_weight_file_is_refused(folder, damage):
    (folder / WEIGHTS).write_bytes(damage((folder / WEIGHTS).read_bytes()))
    message, cause = refusal(folder)
    assert message == f"model {folder}: cannot be loaded: {librarys_first_line(cause)}"


def test_a_folder_without_weights_is_refused(folder):
    (folder / WEIGHTS).unlink()
    message, _ = refusal(folder)
    files = "model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json"
    assert message == f"model {folder}: no weights; one of {files} is needed."


def test_a_folder_without_a_config_is_refused(folder):
    (folder / "config.json").unlink()
    message, _ = refusal(folder)
    assert (
        message
        == f"model {folder}: no config.json; a checkpoint folder holds config.json and model.safetensors or pytorch_model.bin."
    )


def test_a_checkpoint_of_another_architecture_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 32}))
    message, _ = refusal(folder)
    assert message == f"model {folder}: model_type='llama' in config.json; gpt_neo and gpt2 can be localized."


def test_a_missing_folder_is_refused(tmp_path):
    message, _ = refusal(tmp_path / "nowhere")
    expected = f"model {tmp_path / 'nowhere'}: no such folder; give a checkpoint folder, a hub name or nothing for the embedded model."
    assert message == expected
    assert refusal(str(tmp_path / "nowhere"))[0] == expected


def test_a_file_is_not_a_folder(folder):
    path = folder / WEIGHTS
    message, _ = refusal(path)
    assert (
        message
        == f"model {path}: no such folder; give a checkpoint folder, a hub name or nothing for the embedded model."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{not json", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "'list' object has no attribute 'get'"),
    ],
)
def test_a_config_that_is_no_json_object_is_refused(folder, text, reason):
    (folder / "config.json").write_text(text)
    message, _ = refusal(folder)
    assert message == f"model {folder}: config.json is not a JSON object ({reason})."


def test_a_config_that_describes_no_model_is_refused(folder):
    """Five heads do not divide a model of 32 dimensions."""
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace('"num_heads": 4', '"num_heads": 5').replace('"n_head": 4', '"n_head": 5')
    )
    message, cause = refusal(folder)
    assert "divisible by" in message
    assert message == f"model {folder}: cannot be loaded: {librarys_first_line(cause)}"


@pytest.mark.parametrize("dtype", ["int64", "nosuch", "load", 32])
def test_an_unknown_dtype_is_refused(folder, dtype):
    message, _ = refusal(folder, dtype=dtype)
    assert message == f"dtype={dtype!r} is not one of float32, float64, bfloat16, float16."


def test_an_unknown_device_is_refused(folder):
    message, _ = refusal(folder, device="nosuch")
    assert message == "device='nosuch' is not one of cpu, cuda, cuda:0, ...."


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_is_refused_where_there_is_none(folder, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message, _ = refusal(folder, device=device)
    assert message == f"device={device!r}: there is no CUDA device here; allowed: cpu."


@pytest.mark.parametrize("name", ["EleutherAI/no-such-model-of-these-tests", "no-such-model-of-these-tests"])
def test_a_hub_name_while_offline_is_refused_in_one_line(name):
    message, cause = refusal(name)
    assert message == f"model {name}: cannot be loaded: {librarys_first_line(cause)}"


def test_a_refused_model_leaves_the_librarys_messages_as_they_were(folder):
    from transformers.utils import logging

    before = logging.get_verbosity()
    (folder / WEIGHTS).write_bytes(b"")
    refusal(folder)
    assert logging.get_verbosity() == before


# What is embedded, by its name


def test_embedded_is_the_embedded_model_also_where_a_folder_has_that_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, "embedded")
    expected = load_model()
    assert load_model("embedded").weights_hash() == expected.weights_hash()
    assert (load_model("embedded").name, load_model("embedded").vocab_size) == ("embedded", 2048)
    for path in ("./embedded", Path("embedded")):
        loaded = load_model(path)
        assert loaded.weights_hash() == load_model(folder).weights_hash()
        assert loaded.name == "./embedded"
        assert load_model(loaded.name).weights_hash() == loaded.weights_hash()


def test_the_embedded_tokenizer_has_that_name_too(folder):
    loaded = load_model(folder, tokenizer="embedded").tokenizer
    assert loaded.get_vocab() == load_model().tokenizer.get_vocab()


# Revisions


def test_a_revision_of_what_has_none_is_refused(folder, kept, tmp_path):
    ends = "has no revisions; those of a hub name have."
    assert refusal(None, revision="v1")[0] == f"revision='v1': the embedded model {ends}"
    assert refusal("embedded", revision="v1")[0] == f"revision='v1': the embedded model {ends}"
    assert refusal(folder, revision="v1")[0] == f"revision='v1': {folder}, a folder, {ends}"
    assert (
        refusal(str(tmp_path / "nowhere"), revision="v1")[0]
        == f"revision='v1': {tmp_path / 'nowhere'}, a folder, {ends}"
    )
    for source in (kept, kept.hf):
        assert refusal(source, revision="main")[0] == f"revision='main': a model in memory {ends}"


@pytest.fixture
def hub(tmp_path, monkeypatch, make_model, tokenizer):
    """A hub cache with two revisions of some/model, each with weights and a tokenizer of its own, and another/tokenizer."""
    from huggingface_hub import constants

    from localize.train.texts import train_tokenizer

    other = train_tokenizer(["an entirely different corpus of other words"] * 5, 270)
    parts = {"a" * 40: ("main", make_model("gpt2"), tokenizer), "b" * 40: ("late", make_model("gpt2", seed=1), other)}
    for name, revisions in (
        ("some--model", parts),
        ("another--tokenizer", {"c" * 40: ("main", make_model("gpt2"), other)}),
    ):
        for commit, (branch, model, of_model) in revisions.items():
            place = tmp_path / f"models--{name}"
            (place / "refs").mkdir(parents=True, exist_ok=True)
            (place / "refs" / branch).write_text(commit)
            of_model.save_pretrained(place / "snapshots" / commit)
            saved(model, place / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return parts


@pytest.mark.parametrize("revision", [None, "main", "late", "a" * 40, "b" * 40])
def test_a_hub_names_revision_is_that_of_the_weights_and_of_the_tokenizer(hub, revision):
    commit = "b" * 40 if revision in ("late", "b" * 40) else "a" * 40
    _, expected, tokenizer = hub[commit]
    model = load_model("some/model", revision=revision, dtype="float64")
    assert model.weights_hash() == expected.weights_hash()
    assert model.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert (model.name, model.revision) == ("some/model", commit)


def test_a_tokenizer_named_beside_a_revision_is_not_of_that_revision(hub):
    model = load_model("some/model", revision="late", tokenizer="another/tokenizer")
    assert model.tokenizer.get_vocab() == hub["b" * 40][2].get_vocab()
    assert load_model("some/model", tokenizer="some/model", revision="late").tokenizer.get_vocab() == (
        hub["a" * 40][2].get_vocab()
    )


# A model in memory stays the caller's


@pytest.mark.parametrize("form", [lambda m: m, lambda m: m.hf], ids=["hooked", "transformers"])
def test_another_dtype_is_that_of_a_copy(model, form):
    before, hashed = {name: p.clone() for name, p in model.hf.named_parameters()}, model.weights_hash()
    loaded = load_model(form(model), dtype="float32")
    assert loaded.hf is not model.hf
    assert (loaded.dtype, model.dtype, model.weights_hash()) == (torch.float32, torch.float64, hashed)
    loaded.weight(0, "W_Q").fill_(5.0)
    assert all(torch.equal(p, before[name]) for name, p in model.hf.named_parameters())
    assert loaded.hf.lm_head.weight is loaded.hf.transformer.wte.weight


def test_the_dtype_and_device_that_a_model_has_make_no_copy(model):
    assert load_model(model, dtype="float64").hf is model.hf
    assert load_model(model.hf, dtype=torch.float64, device="cpu").hf is model.hf


def test_a_model_of_several_dtypes_is_copied_to_the_one_asked_for(model):
    model.hf.transformer.ln_f.float()
    loaded = load_model(model, dtype="float64")
    assert {p.dtype for p in loaded.hf.parameters()} == {torch.float64}
    assert model.hf.transformer.ln_f.weight.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_another_device_is_that_of_a_copy(model):
    loaded = load_model(model, device="cuda")
    assert (loaded.device.type, model.device.type) == ("cuda", "cpu")
    assert load_model(loaded, device="cuda").hf is loaded.hf


def test_a_model_in_memory_keeps_its_config_and_what_asks_for_gradients(model):
    config = copy.deepcopy(model.hf.config.to_dict())
    model.hf.transformer.wte.weight.requires_grad_(False)
    asked = [p.requires_grad for p in model.hf.parameters()]
    for options in ({}, {"dtype": "float32"}, {"weights": "folded"}):
        loaded = load_model(model.hf, **options)
        assert model.hf.config.to_dict() == config
        assert [p.requires_grad for p in model.hf.parameters()] == asked
        assert [p.requires_grad for p in loaded.hf.transformer.h.parameters()] == [True] * len(
            list(loaded.hf.transformer.h.parameters())
        )
    assert model.hf.lm_head.weight is model.hf.transformer.wte.weight
    assert model.hf.lm_head.bias is None


# Weights that the config does not describe


def rewritten(folder, change, form="model.safetensors"):
    """The folder with its weights changed and written in one of the forms that there are."""
    weights = change(load_file(folder / WEIGHTS))
    (folder / WEIGHTS).unlink()
    if form == WEIGHTS:
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    else:
        torch.save(weights, folder / form)
    return folder


@pytest.mark.parametrize("form", [WEIGHTS, "pytorch_model.bin"])
def test_a_checkpoint_of_more_layers_than_its_config_names_is_refused(folder, family, form):
    rewritten(folder, lambda weights: weights, form)
    config = json.loads((folder / "config.json").read_text())
    if family == "gpt2":
        config["n_layer"] = 2
        count, first, whole = 11, "transformer.h.2.attn.c_attn.weight", 3
    else:
        config |= {
            "num_layers": 2,
            "attention_types": [[["global", "local"], 1]],
            "attention_layers": ["global", "local"],
        }
        count, first, whole = 26, "transformer.h.2.attn.attention.k_proj.weight", 4
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder)[0] == (
        f"model {folder}: {count} weights have no place in the {config['model_type']} that config.json describes, the first {first!r} "
        f"(it has 2 layers, and the weights are of {whole}); a checkpoint is not used in part."
    )


@pytest.mark.parametrize("form", [WEIGHTS, "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("transformer.h.0.mlp.c_fc.lora_A.default.weight", " (an adapter's; merge it into the weights first)"),
        ("transformer.h.0.mlp.c_fc.lora_A", " (an adapter's; merge it into the weights first)"),
        ("transformer.h.0.mlp.c_fc.base_layer.weight", " (an adapter's; merge it into the weights first)"),
        ("transformer.h.0.mlp.gate.weight", ""),
        ("v_head.summary.weight", ""),
        ("score.weight", ""),
        ("ema.transformer.wte.weight", ""),
        ("ema.transformer.h.0.attn.masked_bias", ""),
    ],
)
def test_a_weight_beside_those_of_the_model_is_refused(folder, kept, form, name, why):
    rewritten(folder, lambda weights: weights | {name: torch.zeros(2, 3)}, form)
    assert refusal(folder)[0] == (
        f"model {folder}: 1 weights have no place in the {kept.hf.config.model_type} that config.json describes, the first {name!r}{why}; "
        "a checkpoint is not used in part."
    )


@pytest.mark.parametrize("form", [WEIGHTS, "pytorch_model.bin"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "base_model.model.", "state_dict."])
@pytest.mark.parametrize("bare", [False, True], ids=["whole names", "without transformer."])
def test_the_prefix_of_a_wrapper_is_told(folder, form, prefix, bare):
    def wrapped(weights):
        return {
            prefix + (name.removeprefix("transformer.") if bare else name): value for name, value in weights.items()
        }

    rewritten(folder, wrapped, form)
    message, _ = refusal(folder)
    assert message == (
        f"model {folder}: its weights are named {first_named(message)!r}, as a wrapper saved them; take {prefix!r} off every name, or "
        "save the model inside the wrapper."
    )
    assert first_named(message).startswith(prefix + ("h.0." if bare else "transformer.h.0."))


def first_named(message):
    return message.split("are named '")[1].split("'")[0]


@pytest.mark.parametrize(
    ("nest", "held"),
    [
        (lambda weights: {"state_dict": weights}, "'state_dict'"),
        (lambda weights: {"model": weights, "optimizer": {"lr": 1.0}, "step": 3}, "'model', 'optimizer', 'step'"),
    ],
)
def test_weights_nested_in_a_training_loops_file_are_told(folder, nest, held):
    rewritten(folder, nest, "pytorch_model.bin")
    assert refusal(folder)[0] == (
        f"model {folder}: its weights file holds {held} instead of weights, as a training loop saves them; save the model's state dict "
        "alone."
    )


@pytest.mark.parametrize("form", [WEIGHTS, "pytorch_model.bin"])
@pytest.mark.parametrize("bare", [False, True], ids=["whole names", "without transformer."])
def test_the_masks_that_earlier_versions_saved_are_no_weights(folder, kept, family, form, bare):
    def with_masks(weights):
        attn = "attn." if family == "gpt2" else "attn.attention."
        masks = {f"transformer.h.{n}.{attn}bias": torch.ones(1, 1, 128, 128) for n in range(kept.n_layers)}
        masks |= {f"transformer.h.{n}.{attn}masked_bias": torch.tensor(-1e9) for n in range(kept.n_layers)}
        masks |= {"lm_head.weight": weights["transformer.wte.weight"].clone()}
        return {(k.removeprefix("transformer.") if bare else k): v for k, v in (weights | masks).items()}

    assert load_model(rewritten(folder, with_masks, form)).weights_hash() == kept.weights_hash()


def test_an_adapter_beside_the_weights_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert refusal(folder)[0] == (
        f"model {folder}: adapter_config.json is there, an adapter beside the weights; merge it into them and save the model alone."
    )


def test_a_quantised_checkpoint_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(folder)[0] == (
        f"model {folder}: quantised, as config.json says; float32, float64, bfloat16, float16 weights can be localized, of the model "
        "before."
    )
