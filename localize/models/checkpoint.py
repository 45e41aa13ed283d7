"""The weights of a checkpoint, from a folder or the hub: whole, and as its config describes them, or refused in one line."""

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localize.axes import DTYPES
from localize.errors import ModelError, first_line

if TYPE_CHECKING:
    import torch

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADAPTER_FILE = "adapter_config.json"
FOLDED_BIASES = ("lm_head.bias", ".q_proj.bias", ".k_proj.bias", ".v_proj.bias")
"""Weights that only a folded model has: without them it would be another function."""

LEGACY = re.compile(r"(transformer\.)?h\.\d+\.attn\.(attention\.)?(masked_)?bias")
"""Causal masks, which earlier versions of transformers saved as if they were weights."""

ADAPTER = re.compile(r"(^|[._])(lora|adapter|ia3|base_layer)([._]|$)")
"""What adapters call their weights, or those that they wrap."""


def check_folder(path: Path) -> None:
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
    if (path / ADAPTER_FILE).is_file():  # which transformers applies, or not, as another package is installed
        raise ModelError(
            f"model {path}: {ADAPTER_FILE} is there, an adapter beside the weights; merge it into them and save the model alone."
        )


def load_weights(
    where: str, name: str, dtype: "str | torch.dtype | None", revision: str | None
) -> tuple[Any, str | None]:
    """The Hugging Face model of a folder or a hub name, with every weight that its config describes and no other.

    Args:
        where: Folder or hub name.
        name: What messages call it.
        dtype: The weights' dtype; None means float32.
        revision: The hub's branch, tag or commit.

    Returns:
        The model in evaluation mode, and the hub's commit that it is of, where it is of one.

    Raises:
        ModelError: If it cannot be loaded, is of another architecture or quantised, or its weights are others than the config's.
    """
    # From their modules, here and elsewhere: to go through the package's lazy names takes a type checker half a minute.
    from transformers.models.auto.configuration_auto import AutoConfig
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what it would say about missing weights is an error of ours
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
        commit = None if Path(where).is_dir() else _commit(where, revision)
        if config.model_type not in ("gpt_neo", "gpt2"):
            raise ModelError(f"model {name}: model_type={config.model_type!r}; gpt_neo and gpt2 can be localized.")
        if getattr(config, "quantization_config", None):
            raise ModelError(
                f"model {name}: quantised, as config.json says; {', '.join(DTYPES)} weights can be localized, of the model before."
            )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where,
            revision=commit or revision,  # a branch may have moved since
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
        raise ModelError(f"model {name}: cannot be loaded: {reason(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    unexpected = sorted(key for key in report["unexpected_keys"] if not LEGACY.fullmatch(key))
    if fault := _wrong_weights(hf, sorted(report["missing_keys"]), unexpected):
        raise ModelError(f"model {name}: {fault}")
    return hf, commit


def _commit(name: str, revision: str | None) -> str | None:
    """The commit that a hub name's revision is, as the cache has it once the config is read."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(config).parent.name if isinstance(config, str) else None


def _wrong_weights(hf: Any, missing: list[str], unexpected: list[str]) -> str | None:
    """What is wrong with a checkpoint that lacks some weights or has others, in words; None if neither."""
    kind = hf.config.model_type
    if missing and unexpected:
        if prefix := _prefix(unexpected, hf.state_dict().keys()):
            return (
                f"its weights are named {next(key for key in unexpected if key.startswith(prefix))!r}, as a wrapper saved them; take "
                f"{prefix!r} off every name, or save the model inside the wrapper."
            )
        if not any("." in key for key in unexpected):
            return (
                f"its weights file holds {', '.join(map(repr, unexpected))} instead of weights, as a training loop saves them; save "
                "the model's state dict alone."
            )
    if lost := [key for key in unexpected if key.endswith(FOLDED_BIASES)]:
        return (
            f"{lost[0]!r} has no place in a {kind}: the checkpoint is of a folded model; save the raw model instead and load it "
            "with weights='folded'."
        )
    if missing:
        return f"{len(missing)} weights are missing, the first {missing[0]!r}; an incomplete checkpoint is not used."
    if unexpected:
        return (
            f"{len(unexpected)} weights have no place in the {kind} that config.json describes, the first {unexpected[0]!r}"
            f"{_why_unexpected(unexpected, hf.config.num_hidden_layers)}; a checkpoint is not used in part."
        )
    return None


def _prefix(unexpected: list[str], expected: Collection[str]) -> str | None:
    """What stands before the names that the weights should have, where it is the same for most that are unexpected."""
    names = {*expected, *(name.removeprefix("transformer.") for name in expected)}
    found: Counter[str] = Counter()
    for key in unexpected:
        parts = key.split(".")
        starts = (start for start in range(1, len(parts)) if ".".join(parts[start:]) in names)
        if (start := next(starts, None)) is not None:
            found[".".join(parts[:start]) + "."] += 1
    return next((prefix for prefix, count in found.most_common(1) if 2 * count > len(unexpected)), None)


def _why_unexpected(unexpected: list[str], n_layers: int) -> str:
    """What weights of these names are, as far as it can be told."""
    if any(ADAPTER.search(key) for key in unexpected):
        return " (an adapter's; merge it into the weights first)"
    layers = [int(found[1]) for key in unexpected if (found := re.match(r"(?:transformer\.)?h\.(\d+)\.", key))]
    if len(layers) == len(unexpected) and min(layers) >= n_layers:
        return f" (it has {n_layers} layers, and the weights are of {max(layers) + 1})"
    return ""


def reason(error: Exception) -> str:
    """What a library's error comes to, in one line."""
    if type(error).__name__ == "UnpicklingError":
        return "its weights are a pickle of more than tensors, which is never loaded"
    if "ignore_mismatched_sizes" in str(error):
        return "the shapes of its weights are not those of config.json"
    return first_line(error)


def read_unigram_counts(path: Path, vocab_size: int) -> "torch.Tensor | None":
    """The token counts beside a checkpoint, if there are any.

    Raises:
        ModelError: If the file is none of one integer per token.
    """
    if not path.is_file():
        return None
    import numpy as np
    import torch

    try:
        counts = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ModelError(f"model {path}: not an array of token counts ({reason(error)}).") from None
    if counts.shape != (vocab_size,) or counts.dtype.kind not in "iu":
        raise ModelError(
            f"model {path}: {counts.dtype} of shape {counts.shape}; {vocab_size} integer counts are due, one per token."
        )
    return torch.from_numpy(counts.astype(np.int64))
