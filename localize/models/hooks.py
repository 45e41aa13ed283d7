"""A GPT-Neo or GPT-2 model whose every activation can be read, differentiated and replaced.

The weights stay in the Hugging Face model. The forward pass here calls that model's own linear maps, layer norms
and activation functions, so hooks that others put on those modules still fire; only the wiring between them is ours.
It differs from the Hugging Face one in three ways that the measurements need: attention is computed in the weights' own
precision (GPT-Neo there falls back to float32 even in a float64 model), the pattern can be replaced and not only read,
and logits are computed only where they are asked for. Dropout is never applied.
"""

import copy
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from localize.axes import RAW
from localize.errors import LocalizeError, ModelError, caller, public
from localize.models.activations import BLOCK_SITES, STREAM_SITES, Hook, calling
from localize.models.blocks import add_attention, add_mlp
from localize.models.bridge import bridge_over
from localize.models.fingerprint import fingerprint
from localize.models.foreign import check_plain, foreign_hooks
from localize.models.gates import Sinks
from localize.models.key_values import KeyValues
from localize.models.parameters import Family, weight_view

T = TypeVar("T")


class HookedModel:
    """A thin layer around a Hugging Face GPT-Neo or GPT-2: hooks, parameter views, a TransformerLens bridge.

    Attributes:
        hf: The Hugging Face model, which owns the weights, put into evaluation mode: no dropout is measured. Nothing else of it is
            changed.
        tokenizer: Its tokenizer, or None.
        name: Where it came from: a hub name, a folder, or "in memory".
        revision: The hub's commit, where known.
        family: "gpt-neo" or "gpt2".
        unigram_counts: Occurrences of each token in the training corpus, where the checkpoint folder tells; else None.
        weights: "raw", as they were trained, or "folded"; see `localize.models.folding`.
        sinks: What its memorization sinks would add, where it was trained with such and they are dropped; else None.
    """

    def __init__(
        self,
        hf: Any,
        tokenizer: Any = None,
        *,
        name: str = "in memory",
        revision: str | None = None,
        unigram_counts: Int[Tensor, " vocab"] | None = None,
        weights: str = RAW,
        sinks: Sinks | None = None,
    ):
        model_type = getattr(getattr(hf, "config", None), "model_type", None)
        families: dict[Any, Family] = {"gpt_neo": "gpt-neo", "gpt2": "gpt2"}
        if model_type not in families or not hasattr(hf, "lm_head"):
            raise ModelError(
                f"{name} is a {type(hf).__name__} (model_type={model_type!r}); "
                "GPTNeoForCausalLM and GPT2LMHeadModel (gpt_neo, gpt2) can be localized."
            )
        self.hf = hf.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.revision = revision
        self.unigram_counts = unigram_counts
        self.weights = weights
        self.sinks = sinks
        self.family: Family = families[model_type]
        self.blocks: Sequence[Any] = hf.transformer.h
        self.n_layers = len(self.blocks)
        attn = self.blocks[0].attn  # not the config, which can be changed without effect once the model is there
        self.n_heads: int = (attn.attention if self.family == "gpt-neo" else attn).num_heads
        self.d_model: int = hf.transformer.wte.weight.shape[1]
        self._known: dict[Any, Any] | None = None
        self._windows = [_window(hf.config, block) for block in self.blocks]
        check_plain(self)
        self.d_head: int = (
            self.weight(0, "W_V").shape[1] // self.n_heads
        )  # of a model with more heads it is not d_model / n_heads
        self.d_mlp: int = self.weight(0, "W_in").shape[1]
        self.vocab_size: int = hf.transformer.wte.weight.shape[0]
        self.n_ctx: int = hf.transformer.wpe.weight.shape[0]

    def copied(self) -> "HookedModel":
        """The same model over a copy of its weights, which can be changed without changing this one."""
        return HookedModel(
            copy.deepcopy(self.hf),
            self.tokenizer,
            name=self.name,
            revision=self.revision,
            unigram_counts=self.unigram_counts,
            weights=self.weights,
            sinks=self.sinks,
        )

    def __repr__(self) -> str:
        return (
            f"HookedModel({self.name}: {self.family}, {self.n_layers} layers x {self.n_heads} heads, "
            f"d_model {self.d_model}, vocab {self.vocab_size}, context {self.n_ctx}, "
            f"{'' if self.weights == RAW else self.weights + ' weights, '}"
            f"{str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.hf.transformer.wte.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return self.hf.transformer.wte.weight.dtype

    def window(self, layer: int) -> int | None:
        """How many tokens a local layer's query sees, itself among them; None for a global layer."""
        return self._windows[layer]

    def weight(self, layer: int, component: str, head: int | None = None) -> Tensor:
        """One component's weight, whole or of one head, as a view that writes through; see `weight_view`."""
        return weight_view(self, layer, component, head)

    def weights_hash(self) -> str:
        """SHA-256 of every weight's name and bytes, and of all else that the forward pass reads: equal hashes compute the same.

        The same on every device and in every process, but for a model with `foreign_hooks`: of what these do only their code and what
        it holds on to can be hashed, so that the hash is one of this process alone and nothing stored is ever taken for theirs.
        """
        return self.once("weights_hash", lambda: fingerprint(self))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Inside, the caller changes nothing that the forward pass reads, so that its hash and recall are found once."""
        outer = self._known
        self._known = {} if outer is None else outer
        try:
            yield
        finally:
            self._known = outer

    def once(self, key: Hashable, found: Callable[[], T]) -> T:
        """What is found of the model as it is; inside `unchanged` what was found before by that name."""
        if self._known is None:
            return found()
        if key not in self._known:
            self._known[key] = found()
        return self._known[key]

    @property
    def foreign_hooks(self) -> tuple[str, ...]:
        """Hooks and modules of others that the forward pass calls, in words: a steering vector's, for example."""
        return foreign_hooks(self)

    def check_differentiable(self) -> None:
        """Raise a `LocalizeError` where no gradient can be computed: in or after `torch.inference_mode()`."""
        if torch.is_inference_mode_enabled():
            raise LocalizeError(
                f"{self.name}: no gradient can be computed inside torch.inference_mode(); measure outside of it, or inside "
                "torch.no_grad(), which is allowed."
            )
        if any(p.is_inference() for p in self.hf.parameters()):
            raise LocalizeError(
                f"{self.name}: its weights were made inside torch.inference_mode(), and no gradient can be computed with them; load it "
                "outside of it."
            )

    @property
    def hook_names(self) -> tuple[str, ...]:
        """Every activation that can be read or replaced."""
        blocks = (f"blocks.{layer}.{site}" for layer in range(self.n_layers) for site in BLOCK_SITES)
        return ("hook_embed", "hook_pos_embed", *blocks, "ln_final.hook_out")

    def __call__(self, tokens: Int[Tensor, "batch position"], **options: Any) -> Float[Tensor, "batch read vocab"]:
        """The same as `forward`."""
        return self.forward(tokens, **options)

    def forward(
        self,
        tokens: Int[Tensor, "batch position"],
        *,
        hooks: Mapping[str, Hook] | None = None,
        cache: KeyValues | None = None,
        read: slice = slice(None),
    ) -> Float[Tensor, "batch read vocab"]:
        """Next-token logits.

        Args:
            tokens: Token ids, no BOS added. Right padding is safe: no token sees a later one.
            hooks: Activation name to a function of (activation, name); see `hook_names`.
            cache: Keys and values of the tokens before these; the new ones are appended to it, unless it is read-only. Start with
                `KeyValues()`.
            read: The positions of `tokens` whose logits are wanted.

        Returns:
            Logits at the positions read, in the weights' dtype.

        Raises:
            ModelError: If the tokens do not fit the context or the vocabulary, or a hook's name is unknown.
        """
        return self.hf.lm_head(self.final_states(tokens, hooks=hooks, cache=cache, read=read))

    def final_states(
        self,
        tokens: Int[Tensor, "batch position"],
        *,
        hooks: Mapping[str, Hook] | None = None,
        cache: KeyValues | None = None,
        read: slice = slice(None),
    ) -> Float[Tensor, "batch read d_model"]:
        """What the unembedding (`hf.lm_head`) makes logits of; arguments and errors as in `forward`."""
        hooks = hooks or {}
        self._check_hooks(hooks)
        past = cache.length if cache is not None else 0
        if past == 0:  # what goes on from earlier keys and values need not be checked again, token by token
            check_plain(self)
        if past + tokens.shape[1] > self.n_ctx:
            raise ModelError(
                f"{past + tokens.shape[1]} tokens do not fit the context of {self.name}, which is {self.n_ctx}."
            )

        if (
            tokens.device.type == "cpu"
            and tokens.numel()
            and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_size
        ):
            outside = tokens[(tokens < 0) | (tokens >= self.vocab_size)][0]
            raise ModelError(
                f"token id {int(outside)} is outside the vocabulary of {self.name}, 0..{self.vocab_size - 1}."
            )

        body, site = self.hf.transformer, calling(hooks)
        positions = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        resid = site("hook_embed", body.wte(tokens))
        resid = resid + site("hook_pos_embed", body.wpe(positions).expand_as(resid))
        return self._onwards(resid, 0, hooks, cache, read)

    @public
    def resume(
        self,
        resid: Float[Tensor, "batch position d_model"],
        *,
        at: str,
        to: str | None = None,
        hooks: Mapping[str, Hook] | None = None,
        cache: KeyValues | None = None,
        read: slice = slice(None),
    ) -> Float[Tensor, "batch read d_model"]:
        """The final states of a forward pass that goes on from a known residual stream; what lies before it is not computed.

        Args:
            resid: The stream at all positions of a text, from its first token on or, with a cache, from the first not read.
            at: Where it was read, or would have been: `hook_resid_pre`, `hook_resid_mid` or `hook_resid_post` of a block.
            to: A residual stream that lies after it, where to stop; None goes on to the final states.
            hooks: As in `forward`, of activations that are computed after `at`.
            cache: Keys and values, in every layer, of the tokens before these; it is left as it is. One row of them serves any
                number of rows.
            read: The positions wanted.

        Returns:
            What `final_states` gives for the text whose stream this is, or its stream at `to`.

        Raises:
            ModelError: If `at` or `to` names no residual stream, they are not in order, the cache lacks a layer, or a hook would never
                be called.
        """
        start, stop = self._half("at", at), None if to is None else self._half("to", to)
        if stop is not None and stop <= start:
            raise ModelError(f"{caller()}: to={to!r} does not lie after at={at!r}.")
        hooks = hooks or {}
        self._check_hooks(hooks)
        names = self.hook_names
        if early := set(hooks) & set(names[: names.index(at) + 1]):
            raise ModelError(
                f"{caller()}: a hook of {min(early, key=names.index)!r} is never called when starting after {at!r}."
            )
        if late := set() if to is None else set(hooks) & set(names[names.index(to) :]):
            raise ModelError(
                f"{caller()}: a hook of {min(late, key=names.index)!r} is never called when stopping before {to!r}."
            )
        if cache is not None and len(cache.layers) != self.n_layers:
            raise ModelError(
                f"{caller()}: the cache holds {len(cache.layers)} layers; those of all {self.n_layers} are needed, from a forward pass."
            )
        past = None if cache is None else KeyValues(cache.layers, read_only=True)
        return self._onwards(resid, start, hooks, past, read, stop)

    def _half(self, argument: str, name: str) -> int:
        """Which half block the stream of that name stands before: `2 * layer` is attention, `2 * layer + 1` the MLP."""
        for layer in range(self.n_layers):
            for half, site in enumerate(STREAM_SITES):
                if name == f"blocks.{layer}.{site}":
                    return 2 * layer + half
        raise ModelError(
            f"{caller()}: {argument}={name!r} is no residual stream; those are blocks.0 .. blocks.{self.n_layers - 1}, "
            f"each with {', '.join(STREAM_SITES)}."
        )

    def _check_hooks(self, hooks: Mapping[str, Hook]) -> None:
        if unknown := set(hooks) - set(self.hook_names):
            raise ModelError(
                f"no activation {min(unknown)!r}; the names are {', '.join(self.hook_names[:4])}, ... (hook_names)."
            )

    def _onwards(
        self,
        resid: Float[Tensor, "batch position d_model"],
        start: int,
        hooks: Mapping[str, Hook],
        cache: KeyValues | None,
        read: slice,
        stop: int | None = None,
    ) -> Float[Tensor, "batch read d_model"]:
        """From the stream before half a block to the final states, or to the stream before the half where to stop."""
        site, last = calling(hooks), self.n_layers - 1
        hooked_last = any(name.startswith(f"blocks.{last}.") for name in hooks)
        for half in range(start, 2 * self.n_layers if stop is None else stop):
            layer, asked = half // 2, slice(None)
            # Above the last keys and values, only positions whose logits are read matter; a hook there sees all the same.
            if layer == last and not hooked_last and stop is None:
                asked, read = read, slice(None)
            if half % 2:
                resid = add_mlp(self, layer, resid[:, asked], site)
            else:
                resid = add_attention(self, layer, resid, site, hooks, cache, asked)
        if stop is not None:
            return resid[:, read]
        return site("ln_final.hook_out", self.hf.transformer.ln_f(resid[:, read]))

    def run_with_cache(
        self, tokens: Int[Tensor, "batch position"], names: Sequence[str], **options: Any
    ) -> tuple[Float[Tensor, "batch read vocab"], dict[str, Tensor]]:
        """Logits and the named activations, on the autograd graph where there is one."""
        seen: dict[str, Tensor] = {}

        def keep(value: Tensor, name: str) -> None:
            seen[name] = value

        return self.forward(tokens, hooks=dict.fromkeys(names, keep), **options), seen

    @public
    @torch.no_grad()
    def continue_greedily(self, prefix: Int[Tensor, "batch position"], length: int) -> Int[Tensor, "batch new"]:
        """What the model says after a prefix, the likeliest token each time; no token stops it.

        Raises:
            ModelError: If the prefix is empty, or prefix and new tokens exceed the context.
        """
        return self.continue_by(prefix, length, lambda logits, at: logits.argmax(-1))

    @torch.no_grad()
    def continue_by(
        self, prefix: Int[Tensor, "batch position"], length: int, choose: Callable[[Tensor, int], Tensor]
    ) -> Int[Tensor, "batch new"]:
        """What is said after a prefix where `choose` takes each token, of the logits there (batch, vocab) and its number from 0.

        Raises:
            ModelError: As `continue_greedily`.
        """
        if prefix.shape[1] == 0:
            raise ModelError(f"{caller()}: the prefix is empty; at least one token is needed, and no BOS is added.")
        cache, step, said = KeyValues(), prefix, []
        for at in range(length):
            step = choose(self.forward(step, cache=cache, read=slice(-1, None))[:, 0], at)[:, None]
            said.append(step)
        return torch.cat(said, dim=1) if said else prefix[:, :0]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, no parameter asks for a gradient: activations still can, and backward passes skip the weights."""
        asked = [p for p in self.hf.parameters() if p.requires_grad]
        for p in asked:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in asked:
                p.requires_grad_(True)

    @public
    def bridge(self) -> Any:
        """A TransformerLens `TransformerBridge` over the same parameters: an edit through one is seen by the other.

        Raises:
            ModelError: If the model has no tokenizer, which a bridge needs.
        """
        return bridge_over(self.hf, self.tokenizer, self.name)


def _window(config: Any, block: Any) -> int | None:
    """How many tokens a block's query sees, as its mask has it, which stays what it is if the config is changed later."""
    attention = getattr(block.attn, "attention", None)
    if attention is None or attention.attention_type != "local":
        return None
    last = attention.bias[0, 0, -1]  # what the last token that fits sees
    if last.is_meta or min(config.window_size, len(last)) == int(last.sum()):
        return config.window_size
    return int(last.sum())
