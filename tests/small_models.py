"""An encoder and a classifier of a few kilobytes, for inputs by the thousand."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make_encoder(folder: Path) -> Path:
    """A BERT of one layer."""
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "late", "parcel"]
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}, model_max_length=32).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def make_model(encoder: Path, folder: Path, classes: Sequence[str]) -> Path:
    """A classifier with a new head."""
    from transformers import AutoTokenizer

    from sstext.modeling.student import new_student

    new_student(str(encoder), classes, seed=0).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


def keep_loaded() -> None:
    """Load the classifier and the tokenizer of a folder once, whoever asks: loading takes longer than most inputs."""
    from sstext.inference.classifier import Classifier

    load = functools.cache(Classifier.from_pretrained.__func__)  # type: ignore[attr-defined]

    def loaded(cls: Any, name: Any, **arguments: Any) -> Any:
        return load(cls, name, **arguments)

    Classifier.from_pretrained = classmethod(loaded)  # type: ignore[method-assign, assignment]
