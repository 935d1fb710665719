"""The device and the precision of a computation."""

import contextlib
import os

import torch

from sstext.errors import UserError

#: Padded tokens per forward pass: enough to fill a device, and small enough for its memory (and a CPU's cache).
TOKENS_PER_BATCH = {"cpu": 4_096, "cuda": 131_072, "mps": 16_384}


def resolve_device(name: str = "auto") -> torch.device:
    """`auto`: this process's GPU where there is one, else MPS, else the CPU; any other name as torch takes it.

    Raises:
        UserError: the device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device: expected auto, cpu, cuda, cuda:N or mps, found {name!r}") from None
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing or device.type not in TOKENS_PER_BATCH:
        raise UserError(f"device: {name!r} is not available here; use --device auto")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """fp32, bf16 or fp16; `auto` is bf16 where the device multiplies bfloat16 natively, else fp32.

    A mixed precision set by `accelerate launch` is honored by `auto`.

    Raises:
        UserError: the device cannot do it.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if name == "auto" and launched in ("bf16", "fp16"):
        name = launched
    if name == "auto":
        return "bf16" if _has_native_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 training wants a GPU; use --precision bf16 or fp32 on a CPU")
    return name


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check is not None and check() for check in checks)
    return False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Mixed precision for a forward pass (nothing at fp32)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def calm_libraries() -> None:
    """Our own notes and progress lines replace those of the libraries (here, and not on import: they are the program's)."""
    import datasets
    import huggingface_hub
    import transformers

    huggingface_hub.utils.logging.set_verbosity_error()  # its retries; what fails in the end is said once
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
