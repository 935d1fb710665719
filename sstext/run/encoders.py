"""The pretrained encoder of a run: find it, and choose it if several are given."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from transformers import AutoConfig

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.data.descriptions import kind_of
from sstext.data.preparing import Texts, class_text_encoder, text_encoder
from sstext.data.tokens import tokenize
from sstext.errors import MissingOptionsError, UserError
from sstext.inference.devices import resolve_device
from sstext.methods.method import Stage
from sstext.modeling.pretrained import (
    check_mask,
    check_vocabulary,
    encoder_path,
    explained,
    length_limit,
    load_tokenizer,
    prefix_of,
    split_revision,
    tell_limit,
    trained_reading,
)
from sstext.modeling.reading import MEAN, READINGS, why_not
from sstext.modeling.student import new_student
from sstext.processes import from_main_process, is_main_process
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.class_texts import rows_of_choice
from sstext.pseudolabels.encoders import EncoderFigures, encoder_figures
from sstext.reporting.before_training import encoders_said
from sstext.storage.run_folder import RunDirectory


@dataclass(frozen=True)
class Encoder:
    """A pretrained encoder, without its weights.

    Attributes:
        name: its name in the options.
        tokenizer: its tokenizer.
        config: its configuration, of transformers.
        limit: maximum number of tokens that it reads.
    """

    name: str
    tokenizer: Any
    config: Any
    limit: int


def find_encoders(config: RunConfig, data: Mapping[str, Any]) -> list[Encoder]:
    """The encoders that a run may take, with their tokenizers.

    Args:
        data: the sources of the run (`sstext.data.run_sources.sources`).

    Raises:
        UserError: there is none, one cannot be found, or there are several and no labels.
    """
    if not config.encoders:
        raise MissingOptionsError(
            f"encoder: no pretrained encoder; give {spelled('encoder', 'demo')} (English), or a folder or a Hub name instead",
            "encoder",
        )
    if len(config.encoders) > 1 and "labeled" not in data:
        raise UserError(
            f"encoder: found {len(config.encoders)} encoders, but no labels to compare them by; give one encoder, or "
            f"{spelled('labeled')}"
        )
    return [find_encoder(name) for name in config.encoders]


def find_encoder(given: str) -> Encoder:
    """An encoder by its name.

    Raises:
        UserError: it cannot be found.
    """
    name, revision = split_revision(given)
    path = encoder_path(name)
    tokenizer = load_tokenizer(path, revision)
    with explained(path):
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
        tell_limit(tokenizer, config)
        check_vocabulary(tokenizer, config, given)
        check_mask(config, given)
        if "attention_mask" not in tokenizer.model_input_names:  # padding would leave it out
            tokenizer.model_input_names = [*tokenizer.model_input_names, "attention_mask"]
        return Encoder(given, tokenizer, config, length_limit(tokenizer, config))


def choose_encoder(
    encoders: Sequence[Encoder],
    texts: Texts,
    config: RunConfig,
    directory: RunDirectory,
    reporter: Reporter,
    stages: Sequence[Stage],
) -> Encoder:
    """The encoder of a run: the only one, or the one whose embeddings predict held-out labels with the lowest log-loss.

    The comparison is kept in the folder of the run, and a continued run takes the same encoder. All processes compare the
    encoders together.

    Args:
        texts: the data of the run.
        config: the options, with all encoders.
        stages: the first stages of the run. If one of them reads names or descriptions of the classes, the comparison does,
            too. If the labels choose what its head reads, they choose it for each encoder.

    Raises:
        UserError: an encoder cannot be loaded, or returns no hidden states.
    """
    if len(encoders) == 1:
        return encoders[0]
    known = from_main_process(directory.read_encoders() if is_main_process() else None)
    if known is None:
        known = from_main_process(_compared(encoders, texts, config, reporter, stages))
        if is_main_process():
            directory.write_encoders(known)
        lines = [f"encoder {line}" for line in encoders_said(known)]
    else:
        lines = [f"encoder {known['chosen']}, as chosen when the run began"]
    if is_main_process():
        for line in lines:
            reporter.note(line)
    return next(encoder for encoder in encoders if encoder.name == known["chosen"])


def with_prefix_of(encoder: Encoder, config: RunConfig, reporter: Reporter = SILENT) -> RunConfig:
    """The same run with the prefix that the encoder was trained with, unless the options give a prefix for it.

    Args:
        config: the options, with this encoder alone.
        reporter: gets a note if the prefix is that of the encoder.
    """
    inherited = prefix_of(encoder.config)
    if config.prefix is not None or not inherited:
        return config
    if is_main_process():
        reporter.note(
            f"prefix: {inherited!r}, because {encoder.name} was trained with it; {spelled('prefix')} replaces it"
        )
    return replace(config, prefix=inherited)


def _compared(
    encoders: Sequence[Encoder], texts: Texts, config: RunConfig, reporter: Reporter, stages: Sequence[Stage]
) -> dict[str, Any]:
    """The content of `encoders.json`. Of equally good encoders, the first one is taken."""
    if not any(stage.reads_class_texts for stage in stages):
        texts = replace(texts, class_texts=None)
    reading: str | None = config.pooling if config.pooling in READINGS else MEAN
    if config.pooling == "auto" and any(stage.chooses_reading for stage in stages):
        reading = None
    found = {
        one.name: _figures(one, texts, with_prefix_of(one, config.with_encoder(one.name)), reading, reporter)
        for one in encoders
    }
    kind = None if texts.class_texts is None else kind_of(config.descriptions)
    return {
        "chosen": min(found, key=lambda name: found[name].log_loss),
        "rows": len(rows_of_choice(len(texts.labeled.texts), config.seed)),
        "compared": [{"encoder": name, **asdict(figures), "class_texts": kind} for name, figures in found.items()],
    }


def _figures(
    encoder: Encoder, texts: Texts, config: RunConfig, reading: str | None, reporter: Reporter
) -> EncoderFigures:
    """The figures of one encoder. Texts are cut as they would be in a run with it."""
    name, revision = split_revision(encoder.name)
    try:
        tokens, _ = text_encoder(texts, encoder.tokenizer, encoder.limit, config)
        labeled = tokenize(texts.labeled.texts.select(rows_of_choice(len(texts.labeled.texts), config.seed)), tokens)
        told, by = texts.class_texts, class_text_encoder(tokens, encoder.limit)
        class_texts = tokenize(told.texts, by) if told is not None else None
        model = new_student(name, texts.classes, seed=config.seed, revision=revision, model_args=config.model_args)
        with reporter.phase(f"comparing encoders: {encoder.name}", len(labeled), "text") as tick:
            return encoder_figures(
                model.to(resolve_device(config.device)), labeled, class_texts, encoder.tokenizer,
                classes=len(texts.classes), seed=config.seed, tick=tick,
                reading=MEAN if why_not(model) else reading, trained=trained_reading(name, revision),
            )  # fmt: skip
    except UserError as error:
        raise UserError(f"encoder {encoder.name!r} cannot be compared: {error}") from error
    except Exception as error:  # every architecture has its own conditions
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"encoder {encoder.name!r} cannot be compared ({reason}); leave it out") from error
