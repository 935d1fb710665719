"""Options that do not fit a run, said before anything is trained."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from sstext.config.run_config import RunConfig
from sstext.data.edits import MaskedTokens, TokenEdits
from sstext.data.preparing import fingerprints, read_texts, sources, tokenize_texts
from sstext.errors import UserError
from sstext.inference.devices import resolve_device
from sstext.methods.registry import BETWEEN_ROUNDS, build
from sstext.modeling.pooling import last_hidden_states
from sstext.modeling.pretrained import encoder_path, explained, length_limit, load_tokenizer
from sstext.modeling.student import has_dropout
from sstext.objective.outputs import LABELED_STRONG, MASKED
from sstext.objective.regularizers import Regularizer
from sstext.processes import main_process_first
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.class_shares import balanced, resolve_prior
from sstext.selftraining.budget import folds_of
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, cross_fitted, with_all_labels
from sstext.selftraining.plan import options_of_no_effect, round_admission, texts_wanted
from sstext.storage.run_folder import RunDirectory


def check(chain: Chain) -> None:
    """Say what is wrong with the options of the trainings before any of them begins.

    Raises:
        UserError: arguments that `TrainingArguments` refuses, an encoder that is no classifier's, more frozen layers than
            it has, token edits that its tokenizer cannot do, a method without texts or with arguments that do not fit.
    """
    config = chain.config
    chain.training_arguments(0, None, chain.directory.round(0) / "checkpoints")
    objective = build(config.method, config.method_args, config.regularizers).bind(len(chain.texts.classes), 0)
    if not objective.supervised and chain.tokens.corpus is None:
        name = " with ".join(
            [config.method, ", ".join(config.regularizers)] if config.regularizers else [config.method]
        )
        raise UserError(f"method: {name} learns from unlabeled texts; give --unlabeled corpus.jsonl")
    if config.training_args.get("label_smoothing_factor") and (config.rounds or not objective.plain):
        raise UserError(
            "training_args: label_smoothing_factor serves plain fine-tuning alone (--rounds 0); leave it out"
        )
    for name in options_of_no_effect(config):
        chain.reporter.note(f"{name}: plays no part, {config.method} decides in its own way")
    noisy = config.rounds and chain.admission.noise
    if noisy or objective.wants_strong or LABELED_STRONG in objective.blocks:
        TokenEdits.for_tokenizer(chain.tokenizer, mask=config.token_mask)
    elif config.views and chain.tokens.corpus is not None:
        chain.reporter.note(f"views: not read, {config.method} makes no changed copies of texts")
    if MASKED in objective.blocks:
        MaskedTokens.for_tokenizer(chain.tokenizer)
    if chain.directory.rounds():
        return
    student = chain.student(0)  # encoder, layers to freeze and dropout are tried
    if chain.admission.probe or any(part.pooled for part in objective.regularizers if isinstance(part, Regularizer)):
        with torch.no_grad():
            tried = chain.tokenizer(["probe"], return_tensors="pt")
            last_hidden_states(student(**tried, output_hidden_states=True), student)
    if chain.admission.passes and not has_dropout(student):
        said = "no dropout, so that all passes agree and every row weighs the same; give --dropout 0.1"
        chain.reporter.note(f"{config.method}: {said}")


def open_run(config: RunConfig, reporter: Reporter = SILENT, **data: Any) -> Run:
    """Open the chains of a run: those of the folds, or the one that has all labels.

    Raises:
        UserError: see `self_train`.
    """
    whole = open_chain(config, reporter, **data)
    folds = folds_of(whole)
    if not folds:
        if config.method == "auto" and config.folds is None and whole.tokens.dev is None:
            whole.reporter.note("labels are too few for folds: nothing will tell harm from gain; give more, or --dev")
        return Run(whole, [whole], whole.directory)
    return Run(with_all_labels(whole), cross_fitted(whole, folds), whole.directory)


def open_chain(config: RunConfig, reporter: Reporter = SILENT, **data: Any) -> Chain:
    """Read and tokenize the data, and claim the run folder; everything that can be wrong is said here.

    Raises:
        UserError: see `self_train`.
    """
    if config.output is None:
        raise UserError("output: no folder for the run; give --output out")
    if config.encoder is None:
        raise UserError(
            "encoder: no pretrained encoder; give --encoder with a folder or a Hub name (or `demo`, English)"
        )
    # Names and arguments are checked before anything is loaded.
    build(config.method, config.method_args, config.regularizers, config.unsupervised_strength)
    if config.method in BETWEEN_ROUNDS and not config.rounds:
        raise UserError(f"method: {config.method} works between rounds; give --rounds 1 or more")
    named = sources(config, **data)
    path = encoder_path(config.encoder)
    tokenizer = load_tokenizer(path, config.revision)
    with explained(path):
        encoder_config = AutoConfig.from_pretrained(path, revision=config.revision, trust_remote_code=False)
        limit = length_limit(tokenizer, encoder_config)
    directory = RunDirectory(config.output)
    with (
        main_process_first(resolve_device(config.device)) as first,
        _nothing_left_of_a_bad_start(directory.path, first),
    ):
        if first:
            directory.claim(config.to_yaml(), fingerprints(named), config.defaults())
        notes = reporter if first else SILENT
        texts = read_texts(config, named, directory.data / "unlabeled.arrow", notes, texts_wanted(config))
        tokens = tokenize_texts(texts, tokenizer, limit, config, directory.data, notes)
        if config.max_length is not None:
            tokenizer.model_max_length = tokens.max_length  # predictions then read as far as the user asked for
        labels = np.asarray(texts.labeled.texts["label"][:])
        prior = resolve_prior(config.prior, labels, texts.classes)
        guessed = config.prior == "auto" and round_admission(config).follows_options and balanced(labels)
        chain = Chain(config, texts, tokens, tokenizer, prior, directory, reporter, estimates_prior=guessed)
        check(chain)
        if config.folds and tokens.dev is not None:
            raise UserError("folds: development rows choose and calibrate already; leave out --folds, or --dev")
        if folds_of(chain) and chain.admission.passes:
            raise UserError(
                f"folds: the labels of several chains cannot be averaged by {config.method}; give --folds 0"
            )
        if folds_of(chain):
            cross_fitted(chain, folds_of(chain))  # what is wrong is said here, while nothing has been trained
    return chain


@contextmanager
def _nothing_left_of_a_bad_start(folder: Path, ours: bool) -> Iterator[None]:
    """Leave no trace in a new or empty folder where the input of the run turns out to be wrong."""
    existed = folder.exists()
    unused = not existed or (folder.is_dir() and not any(folder.iterdir()))
    try:
        yield
    except UserError:
        if ours and unused and folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            if existed:
                folder.mkdir()
        raise
