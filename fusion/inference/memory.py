"""Running out of memory, whose error is another one on every device."""

import gc

import torch

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "failed to allocate")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device, or the machine, has too little memory for what was asked."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def free_memory() -> None:
    """Give back what a failed attempt has left, so that the next picture starts with all there is."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
