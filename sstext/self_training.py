"""The round loop. Read this first: the rest of the package is what its lines call.

Round 0 fine-tunes a pretrained encoder on the labeled rows. Each further round scores the unlabeled corpus with the last
student, keeps the rows it may trust, and trains the next student on labeled + kept rows. Pseudo-labels are derived anew in
every round, gold rows are never rewritten, and every finished round is a line of `rounds.jsonl` from which a killed run goes
on.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from sstext.checks import check
from sstext.config.run_config import RunConfig
from sstext.data.preparing import fingerprints, read_texts, sources, tokenize_texts
from sstext.errors import UserError
from sstext.inference.devices import resolve_device
from sstext.methods.registry import BETWEEN_ROUNDS, build
from sstext.modeling.pretrained import encoder_path, explained, length_limit, load_tokenizer
from sstext.processes import main_process_first
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.class_shares import balanced, resolve_prior
from sstext.selftraining.budget import folds_of
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run, cross_fitted, with_all_labels
from sstext.selftraining.loop import run_rounds
from sstext.selftraining.plan import round_admission, texts_wanted
from sstext.selftraining.record import Round
from sstext.storage.run_folder import RunDirectory
from sstext.training.loggers import tracked


def self_train(config: RunConfig, *, reporter: Reporter = SILENT, **data: Any) -> Iterator[Round]:
    """Self-train in `config.output`, one round at a time.

    Rounds that an earlier, interrupted call finished are yielded from their records. Whoever stops asking for rounds stops
    the run; the same call continues it. Source: Yarowsky 1995; Lee 2013; Xie et al. 2020 (Noisy Student), algorithm 1.

    Args:
        config: all options.
        reporter: where notes and progress of this package go (default: nowhere; the libraries' own follow their settings).
        **data: `labeled`, `unlabeled`, `dev`, `test`, `audit` as data sets, in the place of the files in `config`.

    Raises:
        UserError: data, options or folder that cannot be used, before anything is trained.

    ```python
    for round in self_train(RunConfig(labeled="my.csv", unlabeled="corpus.jsonl", encoder="demo", output="out")):
        print(round.index, round.admitted, round.metrics)
    ```
    """
    if config.budget is not None:
        raise UserError("budget: only a whole run can be cut to a time; call sstext.train, or leave it out")
    with tracked(config, reporter) as reporter:
        yield from run_rounds(open_run(config, reporter, **data))


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
