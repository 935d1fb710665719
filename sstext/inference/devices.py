"""The device and the precision of a computation."""

import contextlib
import os

import torch

from sstext.errors import UserError

#: Padded tokens per forward pass: enough to use the whole device, but not too many for its memory (or a CPU's cache).
TOKENS_PER_BATCH = {"cpu": 4_096, "cuda": 131_072, "mps": 16_384}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name. `auto` is the GPU of this process, MPS or the CPU, the first that is available.

    Raises:
        UserError: if the name is unknown, or the device is not available.
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
    """The precision of a name: fp32, bf16 or fp16.

    `auto` is the mixed precision set by `accelerate launch`, if there is one. Otherwise it is bf16 if the device
    supports bfloat16 natively, and fp32 if it does not.

    Raises:
        UserError: if the device does not support the precision.
    """
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if name == "auto" and launched in ("bf16", "fp16"):
        name = launched
    if name == "auto":
        return "bf16" if _has_native_bf16(device) else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise UserError("precision: fp16 training needs a GPU; use --precision bf16 or fp32 on a CPU")
    return name


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(check is not None and check() for check in checks)
    return False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Context manager for the precision of a forward pass. With fp32, it does nothing."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def calm_libraries() -> None:
    """Silence the log messages and progress bars of the libraries, because sstext prints its own.

    Only programs call this. Importing sstext does not change the libraries.
    """
    import datasets
    import huggingface_hub
    import transformers

    huggingface_hub.utils.logging.set_verbosity_error()  # it logs every retry; a final failure is reported once
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
