"""Every measurement takes what can be read as a model and as paragraphs, or says in one line what is wanted."""

import pandas as pd
import pytest

import localize as lz
from localize.measure.inputs import reads_inputs
from localize.measurements import MEASUREMENTS

WORDS = "the cat sat on the mat, and the dog sat on the log; nobody saw them leave"


@pytest.fixture(scope="module")
def texts():
    return [f"{WORDS} {number} {WORDS} " * 3 for number in range(3)]


@pytest.fixture
def model(make_model, tokenizer):
    return make_model("gpt-neo", tokenizer, vocab_size=len(tokenizer))


def told(kind, call, *args, **options):
    with pytest.raises(kind) as caught:
        call(*args, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_texts_tables_and_paragraphs_measure_alike(model, texts):
    expected = lz.recall(model, lz.load_paragraphs(texts, model)).dataset
    for given in (
        texts,
        pd.DataFrame({"text": texts}, index=[5, 5, 5]),
        pd.Series(texts),
        {"text": texts},
        (t for t in texts),
    ):
        found = lz.recall(model, given).dataset
        assert found["tokens"].equals(expected["tokens"])
        assert found["token_nll"].equals(expected["token_nll"])


@pytest.mark.parametrize("name", ["gradients", "ablate", "perturb_prefix"])
def test_a_plain_model_and_texts_give_what_the_hooked_one_and_paragraphs_do(name, model, texts):
    from transformers import GPTNeoForCausalLM

    bare = GPTNeoForCausalLM(model.hf.config).to(model.dtype)
    bare.load_state_dict(model.hf.state_dict())
    bare.tokenizer = model.tokenizer  # where a bridge keeps it
    expected = getattr(lz, name)(model, lz.load_paragraphs(texts[:2], model)).dataset
    found = getattr(lz, name)(bare, texts[:2]).dataset
    assert list(found.data_vars) == list(expected.data_vars)
    for variable in expected.data_vars:
        assert found[variable].equals(expected[variable]), variable


def test_a_folder_stands_for_its_model():
    paragraphs = lz.load_paragraphs(limit=2)
    from localize.resources import embedded

    by_name = lz.recall(str(embedded("model")), paragraphs)
    assert by_name["nll"].equals(lz.recall(lz.load_model(), paragraphs)["nll"])


CALLS = [
    *(measurement.call() for measurement in MEASUREMENTS.values() if measurement.asked), lz.top_weights, lz.edit_sets,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_what_is_neither_is_told_by_every_measurement(call, model):
    name = call.__name__
    wanted = "a HookedModel as load_model gives it, or what it reads, is needed."
    assert told(lz.ModelError, call, 5, ["a"]) == f"{name}: model is a int; {wanted}"
    assert told(lz.ModelError, call, None, ["a"]) == f"{name}: model is a NoneType; {wanted}"
    assert told(lz.InputError, call, model, model) == (
        f"{name}: paragraphs is a HookedModel; Paragraphs as load_paragraphs gives them, or what it reads, are needed."
    )
    assert told(lz.InputError, call, model, "no.csv") == "paragraphs no.csv: no such file."
    assert told(lz.InputError, call, model, ["the cat"]).startswith(
        "paragraphs list: no paragraphs (1 rows skipped: row 0: "
    )
    assert told(TypeError, call, model) == f"{name}() missing a required argument: 'paragraphs'"


def test_only_the_arguments_named_are_read(model, texts):
    @reads_inputs("first")
    def asked(model, first, second="a", *, third=None):
        return type(first).__name__, second, third

    assert asked(model, texts, texts, third=1) == ("Paragraphs", texts, 1)
    assert asked(first=None, model=model) == ("NoneType", "a", None)
    assert asked.__name__ == "asked"


def test_an_error_names_the_outermost_function_called_and_a_later_one_names_itself(model, texts):
    paragraphs = lz.load_paragraphs(texts, model)

    @reads_inputs("paragraphs")
    def outer(model, paragraphs):
        return lz.perturb_prefix(model, paragraphs, draws=0)

    wanted = "draws=0, span=1 and batch_size=64 must be whole numbers of at least 1."
    assert told(lz.LocalizeError, outer, model, paragraphs) == f"outer: {wanted}"
    assert told(lz.LocalizeError, lz.perturb_prefix, model, paragraphs, draws=0) == f"perturb_prefix: {wanted}"
    assert told(lz.LocalizeError, lz.patch, model, paragraphs, continuation="both") == (
        "patch: continuation='both' is not one of true, own."
    )
