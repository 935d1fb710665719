"""The device and the precision of a computation."""

import contextlib
import os
import sys
from typing import Any

import torch

from sstext.config.spelling import spelled
from sstext.errors import UserError

#: Padded tokens per forward pass: enough to use the whole device, but not too many for its memory (or a CPU's cache).
TOKENS_PER_BATCH = {"cpu": 2_048, "cuda": 131_072, "mps": 16_384}


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
        raise UserError(f"device: {name!r} is not available here; use {spelled('device', 'auto')}")
    return device


#: Names of types of weights.
DTYPES = {
    "float32": torch.float32, "fp32": torch.float32, "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
    "float16": torch.float16, "fp16": torch.float16,
}  # fmt: skip


def resolve_dtype(dtype: Any) -> Any:
    """The torch type of a name. A torch type, and `auto` (that of the saved weights), stay as they are.

    Raises:
        UserError: weights cannot have this type.

    >>> resolve_dtype("bf16")
    torch.bfloat16
    """
    if dtype == "auto" or dtype in DTYPES.values():
        return dtype
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected auto, float32, bfloat16 or float16, found {dtype!r}")
    return DTYPES[dtype]


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


#: Kernels that torch keeps on a CPU, in each of its two caches. It makes one for every shape of a matrix in 16 bits. Batches of
#: texts have a thousand shapes, which took 0.4 GB with its default of 1,024 and made nothing faster.
KERNELS = 64


def calm_libraries() -> None:
    """Silence the log messages and progress bars of the libraries, because sstext prints its own, and bound their caches.

    Only programs call this function. Importing sstext does not change the libraries.
    """
    import huggingface_hub
    import transformers

    for variable in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):  # read when the first kernel is made
        os.environ.setdefault(variable, str(KERNELS))
    huggingface_hub.utils.logging.set_verbosity_error()  # it logs every retry; a final failure is reported once
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    else:  # its import takes as long as a prediction, and many commands do not need it
        os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
