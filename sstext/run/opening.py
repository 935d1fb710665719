"""Open a run: read and tokenize the data, claim the folder, plan the stages, and refuse options that do not fit."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sstext.config.run_config import RunConfig
from sstext.data.descriptions import kind_of
from sstext.data.edits import MaskedTokens, TokenEdits
from sstext.data.preparing import Texts, Tokens, fingerprints, is_zero_shot, read_texts, sources, tokenize_texts
from sstext.errors import UserError, listed
from sstext.inference.devices import resolve_device
from sstext.methods.method import Method
from sstext.methods.registry import build, compose
from sstext.modeling.mean_reading import FAMILIES, has_linear_head, why_not
from sstext.modeling.pooling import last_hidden_states
from sstext.modeling.student import has_dropout
from sstext.objective.outputs import LABELED_STRONG, MASKED
from sstext.objective.regularizers import Regularizer
from sstext.processes import is_main_process, main_process_first
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.class_shares import ClassShares
from sstext.pseudolabels.class_texts import WeighedClassTexts
from sstext.reporting.words import class_texts_said, zero_shot_said
from sstext.run.encoders import Encoder, choose_encoder, find_encoders, with_prefix_of
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import TEXTS_PER_FOLD, rows_of_folds, texts_for_folds
from sstext.selftraining.planning import make_plan, method_of, rounds_of_run, texts_wanted
from sstext.storage.run_folder import CHECKPOINTS, RunDirectory


def open_chain(config: RunConfig, reporter: Reporter = SILENT, **data: Any) -> Chain:
    """Open the chain with all labels, and make its full plan. All errors in data and options are found here.

    Raises:
        UserError: see `self_train`.
    """
    if config.output is None:
        raise UserError("output: no folder for the run; give --output out")
    method = method_of(config)  # names and arguments are checked before anything is loaded
    _refuse_rounds_that_do_not_fit(config, method)
    named, device = sources(config, **data), resolve_device(config.device)
    zero_shot, encoders = is_zero_shot(config, named), find_encoders(config, named)
    if zero_shot:
        method = without_labels(config, method, encoders[0])
    directory = RunDirectory(config.output)
    with _nothing_left_of_a_bad_start(directory.path):
        with main_process_first(device) as first:
            if first:
                directory.claim(config.to_yaml(), fingerprints(named, config.descriptions), config.defaults())
            notes = reporter if first else SILENT
            texts = read_texts(
                config, named, directory.corpus, notes, texts_wanted(config, method),
                needs_corpus=rounds_of_run(config, method) > 0,
            )  # fmt: skip
        # All processes embed the rows together, so none may wait for another one here and for the weights of class texts.
        reads_class_texts = any(stage.reads_class_texts for stage in method.first)
        encoder = choose_encoder(encoders, texts, config, directory, reporter, reads_class_texts=reads_class_texts)
        config = with_prefix_of(encoder, config.with_encoder(encoder.name), reporter)
        if config.pooling == "native" or not has_linear_head(encoder.config):
            method = method.without_frozen()  # which changes no method that has no frozen stage
        with main_process_first(device) as first:
            tokens = tokenize_texts(
                texts, encoder.tokenizer, encoder.limit, config, directory.data, reporter if first else SILENT
            )
            chain = _planned(config, method, texts, tokens, encoder.tokenizer, directory, reporter)
        return replace(chain, class_texts=weighed_class_texts(chain))


def _refuse_rounds_that_do_not_fit(config: RunConfig, method: Method) -> None:
    if method.round is None and config.rounds:
        raise UserError(
            f"rounds: {config.method} trains on the labels alone; leave --rounds out, or choose another --method, for example "
            "class-balanced"
        )
    if config.gold_share == 0 and rounds_of_run(config, method):
        raise UserError("gold_share: expected more than 0, so that every batch has labeled rows, found 0")
    # Further losses do not make another kind of method of it.
    if compose(config.method, config.method_args).between_rounds and not rounds_of_run(config, method):
        raise UserError(f"method: {config.method} needs rounds of pseudo-labels; give --rounds 1 or more")


def _planned(
    config: RunConfig, method: Method, texts: Texts, tokens: Tokens, tokenizer: Any, directory: RunDirectory,
    reporter: Reporter,
) -> Chain:  # fmt: skip
    """The chain with all labels, with its full plan. Options that do not fit are refused."""
    if config.max_length is not None:
        tokenizer.model_max_length = tokens.max_length  # predictions then read as far as the user asked for
    if config.folds and tokens.dev is not None:
        raise UserError(
            "folds: development rows are already used to choose the stage and to calibrate; leave out --folds, or --dev"
        )
    # The number of descriptions says nothing about the class shares of the corpus.
    labels = np.arange(len(texts.classes)) if texts.zero_shot else np.asarray(texts.labeled.texts["label"][:])
    shares = ClassShares.resolve(config.prior, labels, texts.classes, estimate=method.follows_shares)
    plan = make_plan(
        config,
        labeled=len(tokens.labeled),
        corpus=len(tokens.corpus) if tokens.corpus is not None else 0,
        folds=0 if texts.zero_shot else folds_of(config, method, tokens),
        test=len(texts.test.texts) if texts.test is not None else 0,
        method=method,
    )
    chain = Chain(config, plan, texts, tokens, tokenizer, shares, directory, reporter)
    check(chain)
    if plan.folds:
        rows_of_folds(chain, plan.folds)  # refuses too many folds while nothing has been trained
    elif texts.zero_shot:
        reporter.note(zero_shot_said(texts.classes, checked=(texts.dev or texts.test) is not None))
    elif config.folds is None and method.folds and tokens.dev is None:
        reporter.note(
            "too few labels to hold any out: self-training cannot be checked; label more texts, or give --dev"
        )
    return chain


def without_labels(config: RunConfig, method: Method, encoder: Encoder) -> Method:
    """The method of a run without labels.

    Raises:
        UserError: it cannot do without labels, or the head of the encoder cannot be written without training.
    """
    made = method.without_labels()
    if made is None:
        raise UserError(
            f"method: {config.method} learns from labeled texts; give --labeled my.csv, or leave out --method (auto can start "
            "from --descriptions alone)"
        )
    if config.pooling == "native":
        raise UserError(
            "pooling: without labels, the head must read the mean; leave out --pooling native, or give --labeled"
        )
    if not has_linear_head(encoder.config):
        raise UserError(
            "encoder: without labels, the head must be linear in the mean of the tokens, and that of "
            f"{encoder.config.model_type} is not; choose one of the kinds {listed(list(FAMILIES))}, or give --labeled"
        )
    return made


def weighed_class_texts(chain: Chain) -> WeighedClassTexts | None:
    """The names or descriptions of the classes with their weight, or None if there are none, or no stage reads them."""
    tokens, config, device = chain.tokens, chain.config, resolve_device(chain.config.device)
    if not any(stage.reads_class_texts for stage in chain.plan.stages):
        return None
    if tokens.class_texts is None:
        if config.descriptions == "names":
            chain.reporter.note(
                "class names: not used, because some are numbers or codes; --descriptions can say what the classes mean"
            )
        return None
    weighed = WeighedClassTexts.weigh(
        chain.student(chain.plan.baseline).to(device), tokens.class_texts, tokens.labeled, chain.tokenizer,
        kind=kind_of(config.descriptions), classes=len(chain.texts.classes), seed=config.seed,
    )  # fmt: skip
    chain.reporter.note(f"class {weighed.kind}: {class_texts_said(weighed.record())}")
    return weighed


def folds_of(config: RunConfig, method: Method, tokens: Tokens) -> int:
    """Number of cross-fitted chains. Without the option, it is that of the method if there are enough labels, otherwise 0."""
    if config.folds is not None:
        return config.folds
    enough = texts_for_folds(tokens.labeled) >= TEXTS_PER_FOLD * method.folds
    return method.folds if tokens.dev is None and enough else 0


def check(chain: Chain) -> None:
    """Find options that do not fit the run, before anything is trained.

    Raises:
        UserError: arguments that `TrainingArguments` refuses, an encoder without a classification head, more frozen layers than
            it has, token edits that its tokenizer cannot do, a method without texts or with arguments that do not fit.
    """
    config, plan, method = chain.config, chain.plan, chain.plan.method
    baseline, selection = plan.baseline, method.selection
    for stage in plan.trainings_ahead:
        chain.training_arguments(stage, None, chain.students.folder(stage) / CHECKPOINTS)
    objective = build(config.method, config.method_args, config.regularizers).bind(len(chain.texts.classes), 0)
    if not objective.supervised and chain.tokens.corpus is None:
        name = " with ".join(
            [config.method, ", ".join(config.regularizers)] if config.regularizers else [config.method]
        )
        raise UserError(f"method: {name} learns from unlabeled texts; give --unlabeled corpus.jsonl")
    if config.training_args.get("label_smoothing_factor") and (plan.rounds or not objective.plain):
        raise UserError("training_args: label_smoothing_factor is supported only by --method supervised; leave it out")
    if plan.folds and selection is not None and selection.passes:
        raise UserError(f"folds: {config.method} cannot average the pseudo-labels of several chains; give --folds 0")
    for name in _options_of_no_effect(config, method):
        chain.reporter.note(f"{name} has no effect: {config.method} selects rows in its own way")
    reads_class_texts = any(stage.reads_class_texts for stage in plan.stages)
    if config.descriptions not in (None, "names", "none") and not reads_class_texts:
        chain.reporter.note(f"descriptions has no effect: {config.method} reads no descriptions of the classes")
    noisy = plan.rounds and selection is not None and selection.noise
    if noisy or objective.wants_strong or LABELED_STRONG in objective.blocks:
        TokenEdits.for_tokenizer(chain.tokenizer, mask=config.edits["mask"])
    elif config.views and chain.tokens.corpus is not None:
        chain.reporter.note(f"views has no effect: {config.method} makes no changed copies of texts")
    if MASKED in objective.blocks:
        MaskedTokens.for_tokenizer(chain.tokenizer)
    if chain.directory.rounds():
        return
    student = chain.student(baseline)  # raises the errors of the encoder, of frozen layers and of dropout
    if config.pooling == "mean" and (reason := why_not(student)):
        chain.reporter.note(f"pooling: {reason}; it keeps its own head")
    pooled = any(part.pooled for part in objective.regularizers if isinstance(part, Regularizer))
    if method.teacher.with_probe or pooled:
        with torch.no_grad():
            tried = chain.tokenizer(["probe"], return_tensors="pt")
            last_hidden_states(student(**tried, output_hidden_states=True), student)
    if selection is not None and selection.passes and not has_dropout(student):
        chain.reporter.note(
            f"{config.method}: the encoder has no dropout, so all passes agree and every row has the same weight; give "
            "--dropout 0.1"
        )


def _options_of_no_effect(config: RunConfig, method: Method) -> list[str]:
    """Names of given options that have no effect, because the method selects rows in its own way."""
    if method.follows_shares:
        return []
    names, defaults = ["prior", "keep"], config.defaults()
    if method.selection is None:
        names = ["keep", "round_steps"]  # class shares weight the held-out rows
    elif method.selection.quotas == "equal":
        names = ["prior"]
    return [name for name in names if getattr(config, name) != defaults[name]]


@contextmanager
def _nothing_left_of_a_bad_start(folder: Path) -> Iterator[None]:
    """Clean up a new or empty folder if the input of the run turns out to be wrong."""
    existed = folder.exists()
    unused = not existed or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except UserError:
        if is_main_process() and unused and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            if existed:
                folder.mkdir()
        raise
