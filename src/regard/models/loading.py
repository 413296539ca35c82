"""Find, load, build and save a causal language model with its tokenizer."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers deadlock otherwise

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from regard.config import ModelConfig, ScratchConfig
from regard.data.assets import ASSETS, fetch
from regard.errors import ConfigError
from regard.models import attention
from regard.models.between import use_kernels
from regard.models.checkpoints import replace_directory, whole_or_nothing
from regard.models.sizes import ONE_STREAM

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()


def resolve_source(source: str) -> str:
    """A fetched model's directory, an existing path, or the hub id as given.

    Raises:
        ConfigError: a path without safetensors weights; pickled weights are never opened.
    """
    path = fetch(source) if source in ASSETS else Path(source)
    if path.is_dir():
        if not any(path.glob("*.safetensors")):
            pickled = [p.name for p in path.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")]
            if pickled:
                raise ConfigError(
                    f"{path}: only pickled weights ({pickled[0]}), which can run code when opened. "
                    f"Convert them to safetensors with save_pretrained first."
                )
            raise ConfigError(f"{path}: no *.safetensors here. Point model.source at a directory with weights.")
        return str(path)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ConfigError(
            f"No model directory {source}. Set model.source to a path, a hub id or one of {list(ASSETS)}."
        )
    return source


def load_causal(source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load model and tokenizer; pad differs from EOS afterwards, or the end of a response would be masked.

    Raises:
        ConfigError: nothing loadable under that name.
    """
    where = resolve_source(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where)
        model = AutoModelForCausalLM.from_pretrained(
            where, dtype=dtype, use_safetensors=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0][:160]
        raise ConfigError(
            f"Model {source!r} cannot be loaded ({first}). Check the name or `regard data fetch`."
        ) from error
    if model.config.model_type in ONE_STREAM:
        _use_ours(model)
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"Model {source!r} has a tokenizer without an EOS token. Choose a model that has one.")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        spare = tokenizer.unk_token or tokenizer.bos_token
        if spare is None or spare == tokenizer.eos_token:
            raise ConfigError(f"Model {source!r} pads with EOS and has no other special token. Add a pad token to it.")
        tokenizer.pad_token = spare
    return model, tokenizer


def _use_ours(model: Any) -> None:
    model.set_attn_implementation(attention.NAME)
    use_kernels(model)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """Byte-level BPE: every string encodes, and decodes to itself."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")


def build_scratch(config: ScratchConfig, tokenizer: Any, seed: int) -> LlamaForCausalLM:
    """A small Llama with random weights drawn from `seed` alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                intermediate_size=config.hidden_size * 8 // 3 // 8 * 8,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_heads,
                max_position_embeddings=1024,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
            )
        )
    _use_ours(model)
    return model


def add_lora(model: Any, rank: int, seed: int, last_layers: int = 0) -> Any:
    """Wrap `model` with LoRA adapters on all linear layers (Hu et al. 2021, alpha = 2·rank, no dropout), of all
    Transformer blocks or of the last few.

    Raises:
        ConfigError: `last_layers` of a model whose blocks are not found, or more than it has.
    """
    from peft import LoraConfig

    targets: str | list[str] = _linear_layers(model, last_layers) if last_layers else "all-linear"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wrapped = _wrap(model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets))
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped


def _linear_layers(model: Any, last_layers: int) -> list[str]:
    """Names of the linear layers in the last blocks."""
    blocks = getattr(model.base_model, "layers", None)
    if blocks is None or last_layers > len(blocks):
        found = "has no list of blocks" if blocks is None else f"has {len(blocks)} blocks"
        raise ConfigError(f"ppo.lora_layers={last_layers}, but this model {found}. Set ppo.lora_layers=0.")
    inside = {id(module) for block in blocks[-last_layers:] for module in block.modules()}
    return [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and id(m) in inside]


def _wrap(model: Any, config: Any) -> Any:
    from peft import get_peft_model

    from regard.models.adapters import use_fast_products

    with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = get_peft_model(model, config)
    use_fast_products(wrapped)
    return wrapped


def merged(model: Any, config: ModelConfig, source: str) -> Any:
    """The model without adapters. LoRA deltas are added to float32 weights read again from `source`: adding them to
    bfloat16 weights would round most of the update away."""
    if config.lora_rank == 0:
        return model
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    full, _ = load_causal(source, torch.float32)
    fresh = _wrap(full, model.peft_config["default"])
    set_peft_model_state_dict(fresh, get_peft_model_state_dict(model))
    return fresh.merge_and_unload()


def save_causal(model: Any, tokenizer: Any, path: Path) -> None:
    """Write a plain Hugging Face directory, whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    with whole_or_nothing(temporary, path):
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
        replace_directory(temporary, path)
