"""From a name, a folder or a model in memory to a `HookedModel`."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.axes import FOLDED, RAW
from localize.errors import ModelError, first_line
from localize.resources import embedded

if TYPE_CHECKING:
    import torch

    from localize.models.hooks import HookedModel

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer_config.json")
UNIGRAM_FILE = "unigram_counts.npy"
FOLDED_BIASES = ("lm_head.bias", ".q_proj.bias", ".k_proj.bias", ".v_proj.bias")
"""Weights that only a folded model has: without them it would be another function."""
DTYPES = ("float32", "float64", "bfloat16", "float16")


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
        source: None for the embedded model; a hub name ("EleutherAI/gpt-neo-125M", "gpt2"); a checkpoint folder with
            safetensors or `pytorch_model.bin`; a transformers model, a `TransformerBridge` or a `HookedModel` in memory,
            which is used as it is, not copied.
        tokenizer: A tokenizer, or where to load one from; None takes the one beside the model, if any.
        device: Where to put it; None means the GPU where there is one, and leaves a model in memory where it is.
        dtype: The weights' dtype; None means float32, and leaves a model in memory as it is.
        revision: The hub's branch, tag or commit.
        weights: "raw", as they were trained, or "folded", as the paper's were (see `folded`): a model in memory is then copied,
            unless it is folded already. None means raw, and leaves a model in memory as it is.

    Raises:
        ModelError: If there is no such model, its architecture is another one, its weights are missing, incomplete
            or would need unpickling of arbitrary objects, or a folded model is to be raw.

    No remote code is run and nothing is unpickled but tensors.
    """
    if weights not in (None, RAW, FOLDED):
        raise ModelError(f"weights={weights!r} is not one of {RAW}, {FOLDED}.")
    dtype, device = _dtype(dtype), _device(device)
    if source is None or isinstance(source, str | Path):
        return _from_files(source, tokenizer, device, dtype, revision, weights)
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
    from localize.models.hooks import HookedModel

    path = embedded("model") if source is None else Path(source)
    if isinstance(source, str) and not path.exists() and _looks_like_hub_name(source):
        where, name = source, source
    else:
        _check_folder(path)
        where, name = str(path), "embedded" if source is None else str(path)
    hf = _load_weights(where, name, dtype, revision)
    counts = _unigram_counts(path / UNIGRAM_FILE, hf.config.vocab_size)
    tokenizer = load_tokenizer(tokenizer if tokenizer is not None else where, required=tokenizer is not None)
    hf = hf.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    commit = getattr(hf.config, "_commit_hash", None)
    model = HookedModel(hf, tokenizer, name=name, revision=commit, unigram_counts=counts)
    return fold_in_place(model) if weights == FOLDED else model


def _from_memory(
    source: Any, tokenizer: Any, device: "torch.device | None", dtype: "torch.dtype | None", weights: str | None
) -> "HookedModel":
    """A model that is there already: itself, or a folded copy."""
    from localize.models.folding import fold_in_place
    from localize.models.hooks import HookedModel

    known = source if isinstance(source, HookedModel) else _hooked(source)
    if known.weights == FOLDED and weights == RAW:
        raise ModelError(
            f"weights={weights!r}: {known.name} is folded, which cannot be undone; load the model it was made of."
        )
    to_fold = weights == FOLDED and known.weights == RAW
    hf = copy.deepcopy(known.hf) if to_fold else known.hf
    if device is not None or dtype is not None:
        hf = hf.to(device=device, dtype=dtype)
    model = HookedModel(
        hf,
        known.tokenizer if tokenizer is None else load_tokenizer(tokenizer),
        name=known.name,
        revision=known.revision,
        unigram_counts=known.unigram_counts,
        weights=known.weights,
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


def _check_folder(path: Path) -> None:
    """Say what a checkpoint folder lacks before a library does so at length."""
    import json

    if not path.is_dir():
        raise ModelError(
            f"model {path}: no such folder; give a checkpoint folder, a hub name or nothing for the embedded model."
        )
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(
            f"model {path}: no config.json; a checkpoint folder holds config.json and {WEIGHT_FILES[0]} or {WEIGHT_FILES[2]}."
        )
    try:
        model_type = json.loads(config.read_text()).get("model_type")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ModelError(f"model {path}: config.json is not a JSON object ({error}).") from None
    if model_type not in ("gpt_neo", "gpt2"):
        raise ModelError(f"model {path}: model_type={model_type!r} in config.json; gpt_neo and gpt2 can be localized.")
    if not any((path / name).is_file() for name in WEIGHT_FILES):
        raise ModelError(f"model {path}: no weights; one of {', '.join(WEIGHT_FILES)} is needed.")


def _load_weights(where: str, name: str, dtype: "str | torch.dtype | None", revision: str | None) -> Any:
    # From their modules, here and elsewhere: to go through the package's lazy names takes a type checker half a minute.
    from transformers.models.auto.configuration_auto import AutoConfig
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what it would say about missing weights is an error of ours
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
        if config.model_type not in ("gpt_neo", "gpt2"):
            raise ModelError(f"model {name}: model_type={config.model_type!r}; gpt_neo and gpt2 can be localized.")
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where,
            revision=revision,
            config=config,
            dtype=dtype or "float32",
            attn_implementation="eager",
            output_loading_info=True,
            trust_remote_code=False,
        )
        hf, report = loaded
    except ModelError:
        raise
    except Exception as error:  # whatever a library says of a damaged file, in one line
        raise ModelError(f"model {name}: cannot be loaded: {_reason(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"model {name}: {len(missing)} weights are missing, the first {missing[0]!r}; an incomplete checkpoint is not used."
        )
    if lost := sorted(name for name in report["unexpected_keys"] if name.endswith(FOLDED_BIASES)):
        raise ModelError(
            f"model {name}: {lost[0]!r} has no place in a {config.model_type}: the checkpoint is of a folded model; "
            "save the raw model instead and load it with weights='folded'."
        )
    return hf


def load_tokenizer(source: Any, *, required: bool = True) -> Any:
    """A tokenizer given, or loaded from a folder or hub name.

    Args:
        source: A tokenizer, a folder or a hub name.
        required: Whether a folder without one is an error, or gives None.

    Raises:
        ModelError: If there is none, or it cannot be loaded.
    """
    if not isinstance(source, str | Path):
        return source
    path = Path(source)
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
        return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"tokenizer {source}: cannot be loaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a library's error comes to, in one line."""
    if type(error).__name__ == "UnpicklingError":
        return "its weights are a pickle of more than tensors, which is never loaded"
    if "ignore_mismatched_sizes" in str(error):
        return "the shapes of its weights are not those of config.json"
    return first_line(error)


def _unigram_counts(path: Path, vocab_size: int) -> "torch.Tensor | None":
    """The token counts beside a checkpoint, if there are any."""
    if not path.is_file():
        return None
    import numpy as np
    import torch

    try:
        counts = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ModelError(f"model {path}: not an array of token counts ({_reason(error)}).") from None
    if counts.shape != (vocab_size,) or counts.dtype.kind not in "iu":
        raise ModelError(
            f"model {path}: {counts.dtype} of shape {counts.shape}; {vocab_size} integer counts are due, one per token."
        )
    return torch.from_numpy(counts.astype(np.int64))
