"""Vectors of sentences from a language model: LLaMA (Sec. 3.3), or a small sentence encoder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.errors import ConfigError, WeightsError
from fusion.parts import Part

_DTYPES = ("float32", "bfloat16", "float16")


class LanguageModelText(Part):
    """Mean of a language model's last hidden states, after its final normalisation, over all tokens.

    Args:
        model: folder with a model and its tokenizer, or its name on the hub, where it is downloaded from.
        dim: width of its hidden states.
        chat: frame the sentence as one message of a user with the model's chat template, the assistant's header at the
            end, whose tokens count too (released T-OAR code); False takes the sentence alone.
        dtype: of the computation.
        device: where it runs; null: the GPU if there is one.
        recognise: cosine similarity from which on a sentence counts as another wording of a known one; None: take every
            sentence, as the paper does.
    """

    is_costly = True

    def __init__(
        self,
        model: str,
        dim: int,
        chat: bool = False,
        dtype: str = "float32",
        device: str | None = None,
        recognise: float | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise ConfigError(f"model.text_encoder.dtype={dtype} is not one of {', '.join(_DTYPES)}")
        self.model, self.dim, self.chat, self.dtype = model, dim, chat, dtype
        self.recognise = recognise
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.identity = f"language model {model} chat={chat} dtype={dtype} mean of last hidden states"
        self._loaded: tuple[Any, Any] | None = None

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `(n, dim)`.

        Raises:
            ConfigError: transformers is not installed, or `dim` is not the model's.
            WeightsError: the model is unavailable.
        """
        tokenizer, network = self._load()
        return torch.stack([self._sentence(tokenizer, network, sentence) for sentence in sentences])

    def check(self) -> None:
        """Say what is missing, without loading the model.

        Raises:
            ConfigError: transformers is not installed.
        """
        try:
            import transformers  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "this text encoder needs transformers: pip install 'image-fusion[text]', or take model/text_encoder=hashed"
            ) from error

    def content(self, sentence: str) -> str:
        """All of it: the model weighs the words."""
        return sentence

    def release(self) -> None:
        """Forget the language model."""
        self._loaded = None
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _sentence(self, tokenizer: Any, network: Any, sentence: str) -> Tensor:
        # One by one: padding would have to be left out of the mean, and there are few sentences.
        if self.chat:
            message = [{"role": "user", "content": sentence}]
            text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
            tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)  # the template has them
        else:
            tokens = tokenizer(sentence, return_tensors="pt")
        tokens = {key: value.to(self.device) for key, value in tokens.items()}
        hidden = network(**tokens).last_hidden_state
        return hidden[0].float().mean(0).cpu().clone()

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is not None:
            return self._loaded
        self.check()
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
            network = AutoModel.from_pretrained(self.model, dtype=getattr(torch, self.dtype), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"model.text_encoder.model={self.model} is unavailable ({str(error).splitlines()[0]}): give a folder with "
                "the model and its tokenizer, or log in to the hub where it asks for that"
            ) from error
        if network.config.hidden_size != self.dim:
            raise ConfigError(
                f"model.text_encoder.dim={self.dim}, but {self.model} has {network.config.hidden_size}: set that"
            )
        if self.chat and getattr(tokenizer, "chat_template", None) is None:
            raise ConfigError(f"{self.model} has no chat template: set model.text_encoder.chat=false")
        self._loaded = (tokenizer, network.eval().to(self.device))
        return self._loaded
