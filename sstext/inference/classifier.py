"""`Classifier`: load a trained model and predict."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub import CommitInfo, hf_hub_download
from huggingface_hub.errors import HTTPError
from transformers import AutoConfig, AutoModelForSequenceClassification

from sstext.data.tokens import TextEncoder
from sstext.errors import UserError, listed
from sstext.evaluation.calibration import sigmoid, softmax
from sstext.evaluation.held_out import threshold_for
from sstext.hub.access import ask_once
from sstext.hub.card import bare_card, named, with_tags
from sstext.hub.foreign import check_shards, drop_code
from sstext.hub.publishing import CARD, model_files, prepare_repository, push_files, with_names
from sstext.inference.devices import resolve_device, resolve_dtype, resolve_precision
from sstext.inference.scoring import device_of, score
from sstext.inference.texts import as_texts
from sstext.modeling.finite import refuse_bad_weights
from sstext.modeling.pretrained import check_vocabulary, explained, length_limit, load_tokenizer, prefix_of
from sstext.modeling.reading import hold_reading
from sstext.progress import Tick


class Classifier:
    """A trained classifier: it predicts class names or probabilities for texts.

    Texts are read up to the model's limit. If the model was trained with a prefix, it is put before every text. The prediction
    for a text does not depend on the other texts. The default precision is float32.

    Texts may be one string or several: a list, a generator, a column or series of `datasets`, numpy, pandas, polars or pyarrow,
    or a table, whose text column is found by its name (`sstext.inference.texts.as_texts`). For one string, `predict`,
    `predict_proba` and `logits` return one result, and for several one for each.

    Args:
        model: a sequence classifier.
        tokenizer: its tokenizer.
        device, precision: see `resolve_device` and `resolve_precision`. A model that was loaded with a `device_map` stays
            where it is.
        max_length: T, maximum number of tokens that are read of a text. Default: the model's limit.
        compile: whether `torch.compile` compiles the model at its first prediction. This takes a minute or more, so it pays
            only for very many texts (recipes/benchmark/LOG.md).

    Attributes:
        classes: names of the C classes, in the order of the outputs.
        id2label, label2id: as in the model's configuration.
        truncated: number of texts that were cut so far.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str = "auto",
        precision: str = "fp32",
        max_length: int | None = None,
        compile: bool = False,
    ) -> None:
        if max_length is not None and max_length < 1:
            raise UserError(f"max_length: expected a whole number of at least 1, found {max_length}")
        self.model, self.tokenizer = model.eval(), tokenizer
        hold_reading(model)  # computes what the head reads faster
        if compile:
            model.compile(dynamic=True)  # the lengths of batches differ; it compiles in place, so saving stays the same
        self.device = device_of(model)
        if getattr(model, "hf_device_map", None) is None:
            self.to(device)
        self.precision = resolve_precision(precision, self.device)
        limit = length_limit(tokenizer, model.config)
        self.encoder = TextEncoder(tokenizer, min(max_length or limit, limit), prefix_of(model.config))
        self.id2label: dict[int, str] = dict(model.config.id2label)
        self.label2id: dict[str, int] = dict(model.config.label2id)
        self.classes: list[str] = [self.id2label[number] for number in range(model.config.num_labels)]
        self.truncated = 0
        self._loaded_from: dict[str, Any] = {}  # arguments of `hf_hub_download`

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        dtype: Any = "float32",
        device_map: Any = None,
        attn_implementation: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        **arguments: Any,
    ) -> "Classifier":
        """Load a classifier from a directory or the Hub. Only safetensors are read.

        Args:
            name: directory or Hub name.
            revision: branch, tag or commit on the Hub.
            dtype: type of the weights: float32, bfloat16, float16, or `auto` for that of the saved ones. Default: float32.
                16 bits need half the memory, and change probabilities in the third digit.
            device_map, attn_implementation, token, cache_dir, local_files_only, subfolder: as in `from_pretrained` of
                transformers. `device_map` is an alternative to `device`.
            **arguments: see `Classifier`.

        Raises:
            UserError: if there is no such model, it is not a text classifier, or it has weights that are not finite.
        """
        if device_map is not None and "device" in arguments:
            raise UserError("device_map: expected either device or device_map, found both; leave one of them out")
        place: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir, "subfolder": subfolder,
                                 "local_files_only": local_files_only}  # fmt: skip
        dtype, inside = resolve_dtype(dtype), f"{subfolder}/" if subfolder else ""
        there = None
        with explained(str(name)):
            if not local_files_only:
                weights = (f"{inside}model.safetensors", f"{inside}model.safetensors.index.json")
                there = ask_once(str(name), revision, cached=weights, token=token, cache_dir=cache_dir)
                if there is not None and not any(f.startswith(inside) and f.endswith(".safetensors") for f in there):
                    # Raised before transformers loads the model, because it would have a bot on the Hub convert the
                    # weights.
                    raise OSError(f"no safetensors among {listed(there)}")
            check_shards(str(name), there, **place)
            config = AutoConfig.from_pretrained(name, trust_remote_code=False, **place)
            if not any("SequenceClassification" in kind for kind in config.architectures or []):
                raise UserError(
                    f"{name}: expected a trained text classifier, found {config.architectures or 'a bare config'}; "
                    "use the `model` folder of a run (out/model)"
                )
            model = AutoModelForSequenceClassification.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=dtype,
                device_map=device_map,
                attn_implementation=attn_implementation,
                adapter_kwargs=dict(
                    place
                ),  # otherwise it would ask the network for an adapter, whatever local_files_only says
                **place,
            )
            refuse_bad_weights(model, str(name))
            tokenizer = load_tokenizer(str(name), **place)
            check_vocabulary(tokenizer, model.config, str(name))
            made = cls(model, tokenizer, **arguments)
        made._loaded_from = {"repo_id": str(name), **place}
        return made

    def __repr__(self) -> str:
        shown = self.classes[:8] + ([f"… {len(self.classes) - 8} more"] if len(self.classes) > 8 else [])
        dtype = str(self.model.dtype).removeprefix("torch.")
        return (
            f"Classifier({str(self.model.config._name_or_path)!r}, classes={shown}, device={str(self.device)!r}, "
            f"dtype={dtype!r}, max_length={self.encoder.max_length})"
        )

    @property
    def problem_type(self) -> str:
        """`single_label_classification`, `multi_label_classification` or `regression`, as `pipeline` decides it."""
        if self.model.config.problem_type == "regression":
            return "regression"
        several = self.model.config.problem_type == "multi_label_classification" or len(self.classes) == 1
        return "multi_label_classification" if several else "single_label_classification"

    def to(self, device: str | torch.device) -> "Classifier":
        """Move the model to a device, and return this classifier.

        Raises:
            UserError: if there is no such device, or the model is spread over several by a `device_map`.
        """
        places = set((getattr(self.model, "hf_device_map", None) or {}).values())
        if len(places) > 1:
            raise UserError(
                f"to: the model is spread over {listed(sorted(map(str, places)))} by its device_map; load it again without one"
            )
        self.device = resolve_device(str(device))
        self.model.to(self.device)
        return self

    def __call__(self, texts: Any, *, top_k: int | Literal[""] | None = "") -> list:
        """Labels and scores in the shape of transformers' text-classification pipeline.

        Scores are those of the pipeline, too: probabilities, each class on its own for a multi-label model, and the outputs as
        they are for a regression.

        Args:
            texts: one or several texts. A pipeline returns an iterator for a generator, and this a list.
            top_k: number of classes per text, or None for all of them, the most probable first. Default: the most probable one.

        Returns:
            Without `top_k`, `[{"label": str, "score": float}]` for one string, and a list of such a dict for each of several
            texts. With `top_k`, a list of dicts for one string, and a list of lists for several texts.

        Raises:
            UserError: a text is no string, or `top_k` is no whole number above 0.
        """
        if top_k not in ("", None) and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise UserError(f"top_k: expected a whole number of at least 1, or None for all classes, found {top_k!r}")
        logits = np.atleast_2d(self.logits(texts))
        scores = logits if self.problem_type == "regression" else self._probabilities(logits)
        kept = 1 if top_k == "" else top_k
        results = [
            [{"label": self.classes[i], "score": float(row[i])} for i in np.argsort(-row, kind="stable")[:kept]]
            for row in scores
        ]
        if isinstance(texts, str):
            return results[0]
        return [found[0] for found in results] if top_k == "" else results

    def logits(self, texts: Any, tick: Tick | None = None) -> np.ndarray:
        """Logits, (N, C) float32, or (C,) for one string.

        Raises:
            UserError: a text is no string. The message has its position.
        """
        if isinstance(texts, str):
            return self.logits([texts], tick)[0]
        rows_of_text = as_texts(texts)
        if not rows_of_text:
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        columns = self.encoder(rows_of_text)
        self.truncated += sum(columns["truncated"])
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return score(self.model, rows, self.tokenizer, precision=self.precision, tick=tick)

    def predict_proba(self, texts: Any, tick: Tick | None = None) -> np.ndarray:
        """Probabilities of the classes (in the order of `classes`), (N, C), or (C,) for one string.

        Each row sums to 1. For a multi-label model, each class has a probability of its own, and rows do not.

        Raises:
            UserError: the model is a regression, or a text is no string.
        """
        self.refuse_regression()
        return self._probabilities(self.logits(texts, tick))

    def predict(self, texts: Any) -> Any:
        """The name of the most probable class of every text, or one name for one string.

        Raises:
            UserError: the model is a regression, or a text is no string.
        """
        self.refuse_regression()
        logits = self.logits(texts)
        return self.classes[logits.argmax()] if logits.ndim == 1 else [self.classes[i] for i in logits.argmax(-1)]

    def refuse_regression(self) -> None:
        """Raise a `UserError` if the model predicts numbers instead of classes."""
        if self.problem_type == "regression":
            raise UserError(
                "expected a classifier, found a model with problem_type='regression', which predicts numbers; "
                "Classifier(…)(texts) and .logits(texts) return them"
            )

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits) if self.problem_type == "single_label_classification" else sigmoid(logits)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the weights, the tokenizer and the model card in a folder. It is made if it does not exist.

        The card is the one that the model was loaded with, or says what is known of the model if there was none.

        Raises:
            UserError: the folder cannot be made.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{folder}: expected a folder to save the model in, and it cannot be made ({error})"
            ) from error
        card = self._card()  # read before the folder changes, because it may be the same
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        drop_code(folder)
        (folder / CARD).write_text(named(card, folder.absolute().name), encoding="utf-8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        tags: Sequence[str] | str | None = None,
    ) -> CommitInfo:
        """Push the weights, the configuration, the tokenizer and the model card to the Hub, in one commit.

        Args:
            repo_id: `user/name`, or only a name for a repository of the token's owner.
            commit_message, private, token: as in `push_to_hub` of transformers.
            revision: a branch, made if it does not exist. Default: main.
            tags: further tags for the card.

        Raises:
            UserError: see `sstext.hub.publishing.prepare_repository`.
        """
        name = prepare_repository(repo_id, private=private, revision=revision, token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            files = with_names(model_files(Path(folder)), name, revision)
            card = files[CARD]
            text = card.decode() if isinstance(card, bytes) else card.read_text(encoding="utf-8")
            files[CARD] = with_tags(text, tags).encode()
            message = commit_message or "A text classifier, made with sstext"
            return push_files(files, name, revision=revision, message=message, token=token).info

    def _card(self) -> str:
        """The card of the loaded model, or a bare one."""
        source = self._loaded_from
        if source and Path(source["repo_id"]).is_dir():
            file = Path(source["repo_id"], source["subfolder"], CARD)
            if file.is_file():
                return file.read_text(encoding="utf-8")
        elif source:
            try:
                return Path(hf_hub_download(filename=CARD, **source)).read_text(encoding="utf-8")
            except (HTTPError, OSError, ValueError, RuntimeError):
                pass  # it has none, or the network is away
        prefix = prefix_of(self.model.config)
        return bare_card("model", self.classes, self.encoder.max_length, prefix, self.problem_type)

    def threshold(self, precision: float) -> float:
        """The lowest confidence at which predictions have at least the given precision, as estimated in training.

        Raises:
            UserError: if the model has no estimate, or no threshold has this precision.
        """
        return threshold_for(getattr(self.model.config, "sstext", None) or {}, precision)

    def stream(self, texts: Iterator[Sequence[str]], tick: Tick | None = None) -> Iterator[np.ndarray]:
        """Probabilities batch by batch, for texts that do not fit in memory."""
        for batch in texts:
            yield self.predict_proba(batch, tick)
