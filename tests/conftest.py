"""What all tests share: small models of both families, in float64, and the data beside the project."""

import functools
import os
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub
if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch or numpy: several workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter
from pathlib import Path
from types import FunctionType

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import settings

CALLS_CHECKED = 100
"""Of a function, in one file of tests: later arguments are like the first ones, and to check them all takes a tenth of the time."""

_checked, _calls = jaxtyping.jaxtyped, Counter()


def _first_calls_checked(fn=None, *, typechecker):
    """`jaxtyping.jaxtyped`, for the first calls in each file. What is made in a function would be given its checks anew: too dear."""
    if fn is None:
        return lambda made: _first_calls_checked(made, typechecker=typechecker)
    if "<locals>" in getattr(fn, "__qualname__", ""):
        return fn
    checked = _checked(fn, typechecker=typechecker)
    if not isinstance(fn, FunctionType):
        return checked

    @functools.wraps(fn)
    def called(*args, **kwargs):
        _calls[fn] += 1
        return (checked if _calls[fn] <= CALLS_CHECKED else fn)(*args, **kwargs)

    return called


jaxtyping.jaxtyped = _first_calls_checked  # before anything imports localize

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

FAMILIES = ("gpt-neo", "gpt2")
VOCAB, CONTEXT, WINDOW = 97, 128, 16
WORDS = "the cat sat on the mat, and the dog sat on the log; nobody saw them leave"


def small_model(family, tokenizer=None, seed=0, dtype=torch.float64, **settings):
    """A random model whose attention and predictions are far from even, and whose biases and norms are not trivial."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoConfig, GPTNeoForCausalLM

    from localize.models.hooks import HookedModel

    common = {"vocab_size": VOCAB, "bos_token_id": None, "eos_token_id": None}
    if family == "gpt2":
        size = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
        hf = GPT2LMHeadModel(GPT2Config(**common | size | settings))
    else:
        size = {
            "hidden_size": 32,
            "num_layers": 4,
            "num_heads": 4,
            "max_position_embeddings": CONTEXT,
            "window_size": WINDOW,
        }
        kinds = {"attention_types": [[["global", "local"], 2]]}
        hf = GPTNeoForCausalLM(GPTNeoConfig(**common | size | kinds | settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in hf.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            spread = 0.4 if "c_attn" in name else 0.2  # GPT-2 divides its scores by sqrt(d_head)
            p.copy_(spread * noise if p.ndim > 1 else p + 0.3 * noise)
    return HookedModel(hf.to(dtype), tokenizer, name=f"small {family}")


@pytest.fixture(scope="session")
def make_model():
    """`make_model(family, tokenizer=None, seed=0, dtype=torch.float64, **config)`: a small random model, a new one each time."""
    return small_model


@pytest.fixture
def neo():
    """GPT-Neo: 4 layers x 4 heads, global and local by turns, window 16, d_model 32, vocabulary 97, context 128."""
    return small_model("gpt-neo")


@pytest.fixture
def gpt2():
    """GPT-2: 3 layers x 4 heads, d_model 32, vocabulary 97, context 128."""
    return small_model("gpt2")


@pytest.fixture(scope="session")
def make_reciter():
    """`make_reciter(following, tokenizer=None)`: a GPT-2 that says `following[t]` after token t, whatever came before it."""

    def make(following, tokenizer=None):
        count = len(following)
        size = {"vocab_size": count, "n_embd": -(-count // 4) * 4, "n_layer": 1, "tie_word_embeddings": False}
        model = small_model("gpt2", tokenizer, **size)
        with torch.no_grad():
            for p in model.hf.transformer.parameters():
                p.zero_()
            model.hf.transformer.ln_f.weight.fill_(1.0)
            model.hf.transformer.wte.weight.copy_(torch.eye(*model.hf.transformer.wte.weight.shape))
            model.hf.lm_head.weight.zero_()
            model.hf.lm_head.weight[following, torch.arange(count)] = 1.0
        return model

    return make


@pytest.fixture
def counter(make_reciter):
    """Says t + 1 after token t, and 0 after 96: it recites any stretch of ascending tokens."""
    return make_reciter([*range(1, VOCAB), 0])


@pytest.fixture(params=FAMILIES)
def family(request):
    """Each family by turns: a test that asks for this runs twice."""
    return request.param


@pytest.fixture
def model(family):
    """A small model of each family by turns: a test that asks for this runs twice."""
    return small_model(family)


@pytest.fixture
def tokens():
    """Six rows of 60 tokens: longer than the local window."""
    return torch.randint(VOCAB, (6, 60), generator=torch.Generator().manual_seed(0))


PREFIX, LENGTH = 24, 40
"""Of `rows`."""


@pytest.fixture(scope="session")
def make_rows():
    """`make_rows(count, seed=5)`: unlike paragraphs of 24 + 16 random tokens."""

    def make(count, seed=5):
        import localize as lz

        tokens = torch.randint(0, VOCAB, (count, LENGTH), generator=torch.Generator().manual_seed(seed))
        return lz.load_paragraphs(tokens, prefix_length=PREFIX, continuation_length=LENGTH - PREFIX)

    return make


@pytest.fixture
def rows(make_rows):
    """Seven unlike paragraphs of 24 + 16 random tokens."""
    return make_rows(7)


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE of 276 tokens at most, without special tokens."""
    from localize.train.texts import train_tokenizer

    return train_tokenizer([WORDS] * 5, 280)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Make GPT-2's half slow where a file says so: what differs between the families is tested in tests/models."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if any(params.get(mark.args[0]) == "gpt2" for mark in item.iter_markers("gpt2_is_slow")):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def _calls_from_zero():
    """Every file has its own first calls."""
    _calls.clear()


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the project; a test that asks for it is skipped where there is none."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the real data is not part of the project")
    return folder


@pytest.fixture
def one_thread():
    """Torch computes in one thread, as the processes do that a test kills: sums of several differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def localize(monkeypatch, capfd):
    """Call the command line as a shell does: (exit code, stdout, stderr); `localize.refused(...)`: the one line of a refusal."""

    from localize import cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["localize", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        # Whether a progress bar shows depends on how busy the machine is; what is told must not.
        for place in (
            "measure.batches",
            "edit.descent",
            "edit.noise",
            "analysis.compare",
            "analysis.distinguish",
            "sweep.run",
            "scan.scan",
            "scan.content",
            "truths.plant",
        ):
            monkeypatch.setattr(f"localize.{place}.SHOW_AFTER", float("inf"))
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capfd.readouterr()

    def refused(*arguments):
        code, _, stderr = call(*arguments)
        assert code == 2
        assert stderr.startswith("localize: ")
        assert stderr.endswith("\n")
        assert len(stderr.splitlines()) == 1
        return stderr.removeprefix("localize: ").rstrip("\n")

    call.refused = refused
    return call


@pytest.fixture
def start_and_kill():
    """`start_and_kill(script, *arguments, after)`: SIGKILL for a Python process, `after` seconds after it has told a first line."""

    def killed(script, *arguments, after):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        time.sleep(after)
        process.kill()
        process.communicate()

    return killed


# Signatures made by hand, and one measured in a small model.

MADE_PREFIX, MADE_CONTINUATION = 6, 4
MADE_VERSIONS = {"localize": "0", "torch": "0"}


def made_dataset(
    group, arrays=None, *, cluster=None, ids=None, continuation="true", call=None, model=None, about=None, **coords
):
    """A dataset as a measurement makes it: recall, and the given arrays with the axes of their schema.

    Args:
        group: One name per paragraph.
        arrays: Registered variables; what is of one kind of replacement may go without that axis.
        cluster: One number per paragraph; each its own if left out.
        ids: Names of the paragraphs.
        continuation: What the given arrays are of; recall is of the true continuation.
        call: Changes to what is told of the measurement.
        model: Changes to what is told of the model.
        about: Changes to what is told of the paragraphs.
        coords: More coordinates along the paragraphs.
    """
    import xarray as xr

    from localize.axes import ATTENTION_COMPONENTS, COMPONENTS, KINDS, NULLS, QUERIES
    from localize.measurements import REGISTRY

    count, rng = len(group), np.random.default_rng(0)
    token_nll = rng.gamma(2.0, size=(count, MADE_CONTINUATION))
    recalled = {
        "exact_match": np.arange(count) % (MADE_CONTINUATION + 1),
        "nll": token_nll.mean(1),
        "token_nll": token_nll,
    }
    variables = {}
    for name, values in {**recalled, **(arrays or {})}.items():
        schema = REGISTRY[name]
        attrs = {"unit": schema.unit, "continuation": "true" if name in recalled else continuation}
        values = np.array(values, dtype=float) if schema.kind == "float" else np.array(values)
        if "kind" in schema.dims and values.ndim == len(schema.dims) - 1:
            values = np.expand_dims(values, schema.dims.index("kind"))
        variables[name] = (schema.dims, values, attrs)
    sizes = {dim: size for dims, values, _ in variables.values() for dim, size in zip(dims, values.shape, strict=True)}
    labels = {
        "layer": np.arange(sizes.get("layer", 0)),
        "head": np.arange(sizes.get("head", 0)),
        "component": np.array(COMPONENTS),
        "attention_component": np.array(ATTENTION_COMPONENTS),
        "prefix_position": np.arange(MADE_PREFIX),
        "set": np.array(list(dict.fromkeys(group))),
        "query": np.array(QUERIES[: sizes.get("query", 0)]),
        "kind": np.array(KINDS[: sizes.get("kind", 0)]),
        "null": np.array(NULLS[: sizes.get("null", 0)]),
    }
    along = {
        "paragraph": ("paragraph", np.array([f"p{i}" for i in range(count)] if ids is None else ids)),
        "group": ("paragraph", np.array(group)),
        "cluster": ("paragraph", np.arange(count) if cluster is None else np.array(cluster)),
        "continuation_position": np.arange(MADE_PREFIX, MADE_PREFIX + MADE_CONTINUATION),
    }
    along |= {dim: values for dim, values in labels.items() if dim in sizes}
    for name, values in coords.items():
        dims = ("paragraph", "position") if name == "tokens" else ("paragraph",)
        along[name] = (dims, np.array(values))
    told = {
        "name": "made", "family": "gpt2", "revision": None, "weights_hash": "a" * 64, "weights": "raw",
        "layers": 2, "heads": 2, "d_model": 8,
    } | (model or {})  # fmt: skip
    matched = [values for name, (_, values, _) in variables.items() if name.endswith("exact_match")]
    longest = max(int(np.ceil(np.nanmax(values, initial=0))) for values in matched)
    data = {
        "source": "made.csv", "data_hash": "d" * 64, "prefix_length": MADE_PREFIX, "continuation_length": max(MADE_CONTINUATION, longest),
        "continuation": "true", "skipped": [],
    } | (about or {})  # fmt: skip
    calls = [{"measurement": "made", "seed": 0, "versions": MADE_VERSIONS} | (call or {})]
    return xr.Dataset(variables, along, {"schema": 1, "model": told, "paragraphs": data, "calls": calls})


def gradients_of(layers, count=None, heads=2):
    """Gradient arrays whose cells are the given number per layer, or per paragraph and layer."""
    from localize.axes import ATTENTION_COMPONENTS, COMPONENTS

    layers = np.asarray(layers, dtype=float)
    layers = np.tile(layers, (count, 1)) if layers.ndim == 1 else layers
    return {
        "gradient_max": np.repeat(layers[:, :, None], len(COMPONENTS), axis=2),
        "head_gradient_max": np.tile(layers[:, :, None, None], (1, 1, len(ATTENTION_COMPONENTS), heads)),
    }


@pytest.fixture
def make_dataset():
    """`make_dataset(group, arrays, ...)`: see `made_dataset`."""
    return made_dataset


@pytest.fixture
def make():
    """`make(group, arrays, ...)`: a signature made by hand; see `made_dataset`."""
    from localize.signature.signature import MemorizationSignature

    return lambda *args, **options: MemorizationSignature(made_dataset(*args, **options))


@pytest.fixture
def layered():
    """`layered(layers, ...)`: see `gradients_of`."""
    return gradients_of


@pytest.fixture(scope="session")
def parts():
    """Recall, gradients, heads and perturbation of the same 12 paragraphs in a small random model: four signatures."""
    from transformers import GPT2Config, GPT2LMHeadModel

    import localize as lz

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=97, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=None, eos_token_id=None
    )
    model = lz.HookedModel(GPT2LMHeadModel(config).double(), name="small")
    paragraphs = lz.load_paragraphs(torch.randint(97, (12, 16)), prefix_length=8, continuation_length=8)
    paragraphs = paragraphs.with_groups(["memorized", "not_memorized"] * 6)
    return (
        lz.recall(model, paragraphs),
        lz.gradients(model, paragraphs),
        lz.rare_token_heads(model, paragraphs),
        lz.perturb_prefix(model, paragraphs),
    )


@pytest.fixture(scope="session")
def measured(parts):
    """All of `parts` in one."""
    recall, gradients, heads, perturbation = parts
    return recall | gradients | heads | perturbation


def made_training(
    nll, exact_match=None, *, copies, windows=None, steps=None, runs=(), seeds=(), exposures=None, clusters=None,
    training=None, length=8, stage=None, kind=None, traits=None,
):  # fmt: skip
    """A signature over training with these numbers along (run, seed, step, paragraph), run and seed only where they are named.

    `windows` are pairs of ends as shares of the run, one for every paragraph.
    """
    import xarray as xr

    from localize.signature.signature import MemorizationSignature

    nll, copies = np.asarray(nll, float), np.asarray(copies)
    named = {"training_run": list(runs), "training_seed": list(seeds)}
    axes = {axis: labels for axis, labels in named.items() if labels}
    axes["training_step"] = list(range(nll.shape[-2])) if steps is None else list(steps)
    dims, count = (*axes, "paragraph"), nll.shape[-1]
    assert nll.shape == (*(len(labels) for labels in axes.values()), count)
    exact_match = np.zeros(nll.shape, int) if exact_match is None else np.asarray(exact_match, int)
    variables = {"nll": (dims, nll), "exact_match": (dims, exact_match)}
    variables["token_nll"] = ((*dims, "continuation_position"), np.repeat(nll[..., None], length, -1))
    if exposures is not None:
        variables["exposures"] = (dims, np.asarray(exposures, int))
    hashes = np.array([f"{at:064x}" for at in range(nll[..., 0].size)]).reshape(nll.shape[:-1])
    coords = axes | {
        "weights_hash": (tuple(axes), hashes), "paragraph": [f"p{at}" for at in range(count)],
        "group": ("paragraph", np.where(copies > 0, "planted", "never_trained")),
        "cluster": ("paragraph", np.arange(count) if clusters is None else np.asarray(clusters)),
        "duplicates": ("paragraph", copies), "continuation_position": np.arange(10, 10 + length),
    }  # fmt: skip
    if windows is not None:
        ends = np.asarray(windows, float)
        coords |= {"window_start": ("paragraph", ends[:, 0]), "window_end": ("paragraph", ends[:, 1])}
    if stage is not None:
        coords["training_stage"] = ("paragraph", np.asarray(stage))
    coords |= {name: ("paragraph", np.asarray(values)) for name, values in (traits or {}).items()}
    if kind is not None:
        coords["text_kind"] = ("paragraph", np.asarray(kind))
    about = {
        "source": "made",
        "data_hash": "d" * 64,
        "prefix_length": 10,
        "continuation_length": length,
        "continuation": "true",
    }
    model = {"name": "made", "family": "gpt-neo", "weights": "raw", "weights_hash": "a" * 64, "revision": None}
    attrs = {"schema": 3, "model": model, "paragraphs": about, "calls": [{"measurement": "made", "seed": 0}]}
    if training is not None:
        attrs["training"] = training
    return MemorizationSignature(xr.Dataset(variables, coords, attrs))


@pytest.fixture(scope="session")
def join_arms():
    """`join_arms({"few": ..., "many": ...})`: signatures over training as those of the arms of one recipe."""
    from localize.signature.signature import MemorizationSignature
    from localize.signature.stacking import stacked

    def joined(parts):
        dataset = stacked("training_arm", parts).dataset
        varied = {name: {"planted.copies": {number: 2}} for number, name in enumerate(list(parts)[1:])}
        told = {name: part.dataset.attrs["training"] for name, part in parts.items()}
        dataset.attrs["training"] = {"arms": {name: told[name] | {"varied": varied.get(name, {})} for name in parts}}
        return MemorizationSignature(dataset)

    return joined


@pytest.fixture(scope="session")
def make_training():
    """`make_training(nll, exact_match, copies=..., ...)`: see `made_training`."""
    return made_training


FOLLOWED = np.array([0, -1, -1, 2, 1, -1, -1, -1])
"""Which paragraph each row is of four steps of two rows: steps 0, 1 and 2 show some."""


def followed_training(paragraphs, seed=0):
    """Loss change of a training of four steps of two rows, put down after 0, 2 and 4."""
    from torch.nn.functional import cross_entropy

    import localize as lz

    hf, change = small_model("gpt2", seed=seed, n_layer=2).hf, lz.LossChange(paragraphs, FOLLOWED, 2, at=2)
    generator, optimizer = torch.Generator().manual_seed(seed), torch.optim.SGD(hf.parameters(), lr=1e-3)
    change(hf, 0)
    for step in range(4):
        tokens = torch.randint(VOCAB, (2, LENGTH), generator=generator)
        cross_entropy(hf(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step(), optimizer.zero_grad()
        change(hf, step + 1)
    return change.signature()


@pytest.fixture(scope="session")
def followed():
    """`followed(paragraphs, seed=0)`: see `followed_training`."""
    return followed_training


@pytest.fixture(scope="session")
def followed_seeds(make_rows):
    """Loss change of three planted paragraphs and four held out, in three seeds."""
    from dataclasses import replace

    from localize.signature.stacking import stacked

    paragraphs = replace(make_rows(7), duplicates=(1, 1, 1, 0, 0, 0, 0))
    return stacked("training_seed", {seed: followed_training(paragraphs, seed) for seed in range(3)})
