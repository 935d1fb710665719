"""Options and encoders that do not fit a run. They are refused before the data are read."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from sstext.config.option_groups import EDITS
from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.data.edits import MaskedTokens, TokenEdits
from sstext.errors import UserError
from sstext.methods.method import Method
from sstext.methods.registry import build, compose
from sstext.modeling.pooling import embeddings_of
from sstext.modeling.pretrained import split_revision
from sstext.modeling.reading import FIRST, READINGS, why_not
from sstext.modeling.student import has_dropout, new_student
from sstext.objective.outputs import MASKED
from sstext.objective.regularizers import Regularizer
from sstext.processes import is_main_process
from sstext.progress import Reporter
from sstext.ray.cluster import imported_ray
from sstext.run.encoders import Encoder
from sstext.selftraining.planning import rounds_of_run
from sstext.training.stage_arguments import stage_arguments


def check_options(config: RunConfig, method: Method, named: Mapping[str, Any]) -> None:
    """Refuse options that do not fit the method or each other.

    Args:
        named: the sources of the run (`sstext.data.run_sources.sources`).

    Raises:
        UserError: rounds, folds or training arguments that do not fit, or that `TrainingArguments` refuses.
    """
    rounds = rounds_of_run(config, method)
    if method.round is None and config.rounds:
        raise UserError(
            f"rounds: {config.method} trains on the labels alone; leave {spelled('rounds')} out, or choose another "
            f"{spelled('method')}, for example class-balanced"
        )
    if "classifier_pooling" in config.model_args:
        raise UserError(
            f"model_args: classifier_pooling is an option of its own; give {spelled('pooling', 'mean')}, "
            f"{spelled('pooling', 'first')} or {spelled('pooling', 'native')}"
        )
    if config.gold_share == 0 and rounds:
        raise UserError("gold_share: expected more than 0, so that every batch has labeled rows, found 0")
    # Further losses do not make another kind of method of it.
    if compose(config.method, config.method_args).between_rounds and not rounds:
        raise UserError(f"method: {config.method} needs rounds of pseudo-labels; give {spelled('rounds', 1)} or more")
    if config.folds and "dev" in named:
        raise UserError(
            "folds: development rows are already used to choose the stage and to calibrate; leave out "
            f"{spelled('folds')}, or {spelled('dev')}"
        )
    if config.folds and method.selection is not None and method.selection.passes:
        raise UserError(
            f"folds: {config.method} cannot average the pseudo-labels of several chains; give {spelled('folds', 0)}"
        )
    plain = build(config.method, config.method_args, config.regularizers).plain
    if config.training_args.get("label_smoothing_factor") and (rounds or not plain):
        raise UserError(
            f"training_args: label_smoothing_factor is supported only by {spelled('method', 'supervised')}; leave it out"
        )
    if config.engine == "ray":
        imported_ray()
        if PartialState().num_processes > 1:
            raise UserError(
                f"engine: {spelled('engine', 'ray')} starts the processes itself; run sstext without a launcher"
            )
    stages = (*method.stages(rounds), method.plain)  # the final stage trains as the first round does
    for stage in (stage for stage in stages if stage is not None and not stage.frozen):
        stage_arguments(
            config, stage, steps=1, seed=config.seed, max_length=8, has_development_rows="dev" in named,
            output=Path(str(config.output)),
        )  # fmt: skip


def with_edits_of(encoder: Encoder, config: RunConfig, reporter: Reporter) -> RunConfig:
    """The same run with edits that the tokenizer can do: without a mask token, tokens are dropped by default."""
    if encoder.tokenizer.mask_token_id is not None or config.edits != EDITS:
        return config
    instead = {**EDITS, "mask": 0.0, "drop": EDITS["mask"]}
    if is_main_process():
        reporter.note(
            f"edits: the tokenizer of {encoder.name} has no mask token, so {EDITS['mask']:.0%} of the tokens are dropped "
            f"instead ({spelled('edits', {'mask': 0, 'drop': EDITS['mask']})})"
        )
    return replace(config, edits=instead)


def check_encoder(encoder: Encoder, config: RunConfig, method: Method, reporter: Reporter) -> None:
    """Try the encoder on one text with the options of a run.

    Raises:
        UserError: it cannot be loaded, its states do not belong to its tokens, or the options ask for edits, layers or a
            dropout that it does not have.
    """
    selection = method.selection
    objective = build(config.method, config.method_args, config.regularizers)
    noisy = rounds_of_run(config, method) and selection is not None and selection.noise
    if noisy or objective.wants_strong:
        TokenEdits.for_tokenizer(encoder.tokenizer, mask=config.edits["mask"])
    if MASKED in objective.blocks:
        MaskedTokens.for_tokenizer(encoder.tokenizer)
    name, revision = split_revision(encoder.name)
    student = new_student(
        name, ["0", "1"], seed=config.seed, revision=revision, dropout=config.dropout,
        freeze_embeddings="embeddings" in config.freeze, freeze_layers=config.frozen_layers,
        reading=config.pooling if config.pooling in READINGS else None,
    )  # fmt: skip
    if config.pooling == FIRST and encoder.tokenizer.padding_side == "left":
        raise UserError(
            f"pooling: the tokenizer of {encoder.name} pads on the left, so that the first token would be padding; leave out "
            f"{spelled('pooling', FIRST)}"
        )
    if config.pooling in READINGS and (reason := why_not(student)):
        reporter.note(f"pooling: {reason}, so that {spelled('pooling', config.pooling)} has no effect")
    pooled = any(part.pooled for part in objective.regularizers if isinstance(part, Regularizer))
    _try(encoder, student.eval(), pooled=method.teacher.with_probe or pooled)
    if selection is not None and selection.passes and not has_dropout(student):
        reporter.note(
            f"{config.method}: the encoder has no dropout, so all passes agree and every row has the same weight; give "
            f"{spelled('dropout', 0.1)}"
        )


def _try(encoder: Encoder, student: Any, *, pooled: bool) -> None:
    """Classify two texts of different lengths, and optionally embed them."""
    texts = ["one text", "another text, which is longer, to try the encoder with"]
    inputs = encoder.tokenizer(texts, padding=True, truncation=True, max_length=encoder.limit, return_tensors="pt")
    try:
        with torch.no_grad():
            outputs = student(**inputs, output_hidden_states=pooled)
            if pooled:
                embeddings_of(outputs, student, inputs["attention_mask"])
    except UserError:
        raise
    except Exception as error:  # every architecture has its own conditions
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"encoder {encoder.name!r}: {encoder.config.model_type} cannot classify two texts ({type(error).__name__}: "
            f"{reason}); check that its tokenizer belongs to it, or choose another encoder"
        ) from error
