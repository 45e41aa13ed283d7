"""From a name, a folder or a model in memory to a `HookedModel`."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.axes import DTYPES, FOLDED, RAW
from localize.errors import ModelError, public
from localize.models.checkpoint import check_folder, load_weights, read_unigram_counts, reason
from localize.resources import EMBEDDED, embedded, path_words

if TYPE_CHECKING:
    import torch

    from localize.models.hooks import HookedModel

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer_config.json")
UNIGRAM_FILE = "unigram_counts.npy"


@public
def load_model(
    source: Any = None,
    *,
    tokenizer: Any = None,
    device: "str | torch.device | None" = None,
    dtype: "str | torch.dtype | None" = None,
    revision: str | None = None,
    weights: str | None = None,
) -> "HookedModel":
    """Load a GPT-Neo or GPT-2 model, hooked.

    Args:
        source: None or "embedded" for the embedded model; a hub name ("EleutherAI/gpt-neo-125M", "gpt2"); a checkpoint folder with
            safetensors or `pytorch_model.bin` ("./embedded" is a folder of that name); a transformers model, a `TransformerBridge` or
            a `HookedModel` in memory, which is put into evaluation mode and shared, not copied.
        tokenizer: A tokenizer, or where to load one from; None takes the one beside the model, if any.
        device: Where to put it; None means the GPU where there is one, and leaves a model in memory where it is.
        dtype: The weights' dtype; None means float32, and leaves a model in memory as it is.
        revision: The hub's branch, tag or commit, of the weights and of the tokenizer beside them; nothing else has one.
        weights: "raw", as they were trained, or "folded", as the paper's were (see `folded`). None means raw, and leaves a model in
            memory as it is.

    Returns:
        The model. One in memory that is to have another device, dtype or processing of its weights is copied first: the caller's
        own keeps its weights, as do hooked models made of it before.

    Raises:
        ModelError: If there is no such model, its architecture is another one, its weights are missing, incomplete, more than
            its config describes, quantised or would need unpickling of arbitrary objects, a revision is asked of what has none,
            or a folded model is to be raw.

    No remote code is run and nothing is unpickled but tensors.
    """
    if weights not in (None, RAW, FOLDED):
        raise ModelError(f"weights={weights!r} is not one of {RAW}, {FOLDED}.")
    dtype, device = _dtype(dtype), _device(device)
    if source is None or isinstance(source, str | Path):
        return _from_files(None if source == EMBEDDED else source, tokenizer, device, dtype, revision, weights)
    if revision is not None:
        raise ModelError(f"revision={revision!r}: a model in memory has no revisions; those of a hub name have.")
    return _from_memory(source, tokenizer, device, dtype, weights)


def _from_files(
    source: str | Path | None,
    tokenizer: Any,
    device: "torch.device | None",
    dtype: "torch.dtype | None",
    revision: str | None,
    weights: str | None,
) -> "HookedModel":
    """The embedded model, or one of a folder or the hub."""
    import torch

    from localize.models.folding import fold_in_place
    from localize.models.gates import read_sinks
    from localize.models.hooks import HookedModel

    path = embedded("model") if source is None else Path(source)
    if isinstance(source, str) and not path.exists() and _looks_like_hub_name(source):
        where, name = source, source
    else:
        where, name = str(path), EMBEDDED if source is None else path_words(path)
        if revision is not None:
            what = "the embedded model" if source is None else f"{name}, a folder,"
            raise ModelError(f"revision={revision!r}: {what} has no revisions; those of a hub name have.")
        check_folder(path)
    hf, commit = load_weights(where, name, dtype, revision)
    counts = read_unigram_counts(path / UNIGRAM_FILE, hf.config.vocab_size)
    if tokenizer is None:
        tokenizer = load_tokenizer(path if path.is_dir() else where, required=False, revision=commit or revision)
    else:
        tokenizer = load_tokenizer(tokenizer)
    hf = hf.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = HookedModel(hf, tokenizer, name=name, revision=commit, unigram_counts=counts)
    if (sinks := read_sinks(path, (model.n_layers, model.d_mlp, model.d_model))) is not None:
        model.sinks = sinks.to(model.weight(0, "W_out"))
    return fold_in_place(model) if weights == FOLDED else model


def _from_memory(
    source: Any, tokenizer: Any, device: "torch.device | None", dtype: "torch.dtype | None", weights: str | None
) -> "HookedModel":
    """A model that is there already: itself, or a copy where that would change it."""
    from localize.models.folding import fold_in_place
    from localize.models.hooks import HookedModel

    known = source if isinstance(source, HookedModel) else _hooked(source)
    if known.weights == FOLDED and weights == RAW:
        raise ModelError(
            f"weights={weights!r}: {known.name} is folded, which cannot be undone; load the model it was made of."
        )
    to_fold = weights == FOLDED and known.weights == RAW
    moved = not _is_there(known.hf, device, dtype)
    hf = copy.deepcopy(known.hf) if to_fold or moved else known.hf
    if moved:
        hf = hf.to(device=device, dtype=dtype)
    model = HookedModel(
        hf,
        known.tokenizer if tokenizer is None else load_tokenizer(tokenizer),
        name=known.name,
        revision=known.revision,
        unigram_counts=known.unigram_counts,
        weights=known.weights,
        sinks=known.sinks if known.sinks is None or not moved else known.sinks.to(hf.transformer.wte.weight),
    )
    return fold_in_place(model) if to_fold else model


def _hooked(source: Any) -> "HookedModel":
    """A transformers model or a bridge, as it is."""
    from localize.models.bridge import is_bridge, model_behind
    from localize.models.folding import processing_of
    from localize.models.hooks import HookedModel

    hf = model_behind(source) if is_bridge(source) else source
    config = getattr(hf, "config", None)
    return HookedModel(
        hf,
        getattr(source, "tokenizer", None),
        name=getattr(config, "_name_or_path", "") or "in memory",
        revision=getattr(config, "_commit_hash", None),
        weights=processing_of(hf),
    )


def _is_there(hf: Any, device: "torch.device | None", dtype: "torch.dtype | None") -> bool:
    """Whether all that a model holds is on a device and, if floating, of a dtype; None is any."""
    import torch

    if device is not None:
        device = torch.empty(0, device=device).device  # "cuda" as the one that it means
    return all(
        device in (None, tensor.device) and (dtype in (None, tensor.dtype) or not tensor.is_floating_point())
        for tensor in (*hf.parameters(), *hf.buffers())
    )


def _dtype(dtype: "str | torch.dtype | None") -> "torch.dtype | None":
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    if str(dtype) not in DTYPES:
        raise ModelError(f"dtype={dtype!r} is not one of {', '.join(DTYPES)}.")
    return getattr(torch, str(dtype))


def _device(device: "str | torch.device | None") -> "torch.device | None":
    import torch

    if device is None:
        return None
    try:
        device = torch.device(device)
    except RuntimeError:
        raise ModelError(f"device={device!r} is not one of cpu, cuda, cuda:0, ....") from None
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"device={str(device)!r} is not one of cpu, cuda, cuda:0, ....")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device={str(device)!r}: there is no CUDA device here; allowed: cpu.")
    return device


def _looks_like_hub_name(source: str) -> bool:
    return bool(source) and source.count("/") <= 1 and not source.startswith((".", "/", "~")) and "\\" not in source


def load_tokenizer(source: Any, *, required: bool = True, revision: str | None = None) -> Any:
    """A tokenizer given, or loaded from a folder or hub name.

    Args:
        source: A tokenizer, a folder, a hub name, or "embedded" for the embedded model's.
        required: Whether a folder without one is an error, or gives None.
        revision: The hub's branch, tag or commit.

    Raises:
        ModelError: If there is none, or it cannot be loaded.
    """
    if not isinstance(source, str | Path):
        return source
    path = embedded("model") if source == EMBEDDED else Path(source)
    if required and not path.exists() and not _looks_like_hub_name(str(source)):
        raise ModelError(f"tokenizer {path}: no such folder.")
    if path.is_dir() and not any((path / name).is_file() for name in TOKENIZER_FILES):
        if required:
            raise ModelError(f"tokenizer {path}: none of {', '.join(TOKENIZER_FILES)} is there.")
        return None
    from transformers.models.auto.tokenization_auto import AutoTokenizer
    from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer

    try:
        if path.is_dir() and not (path / "tokenizer_config.json").is_file() and not (path / "tokenizer.json").is_file():
            return GPT2Tokenizer.from_pretrained(str(path))  # bare vocab.json + merges.txt
        where = str(path) if path.is_dir() else str(source)
        return AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"tokenizer {source}: cannot be loaded: {reason(error)}") from error
