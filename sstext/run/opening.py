"""Open a run: read and tokenize the data, claim the folder, plan the stages, and refuse options that do not fit."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.data.preparing import Texts, Tokens, read_texts, tokenize_texts
from sstext.data.run_sources import fingerprints, given_data, is_zero_shot, sources
from sstext.data.sources import source_kind
from sstext.data.standard_input import STDIN, standard_input
from sstext.errors import MissingOptionsError, UserError, listed
from sstext.inference.devices import resolve_device
from sstext.methods.catalog import named as named_method
from sstext.methods.method import Method
from sstext.methods.registry import build
from sstext.modeling.reading import FAMILIES, has_linear_head
from sstext.processes import (
    from_main_process,
    is_main_process,
    main_process_first,
    number_of_processes,
    refuse_parts_of_models,
    wait_for_everyone,
)
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.class_shares import ClassShares
from sstext.reporting.before_training import zero_shot_said
from sstext.run.checks import check_encoder, check_options, with_edits_of
from sstext.run.checkup import check_texts
from sstext.run.chosen_by_labels import chosen_reading, weighed_class_texts
from sstext.run.encoders import Encoder, choose_encoder, find_encoders, with_prefix_of
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import TEXTS_PER_FOLD, rows_of_folds, texts_for_folds
from sstext.selftraining.planning import make_plan, method_of, rounds_of_run, texts_wanted
from sstext.storage.ownership import LOCK, OWNER
from sstext.storage.run_folder import RunDirectory
from sstext.storage.whole import remove
from sstext.training.class_balance import class_weights


def open_chain(config: RunConfig, reporter: Reporter = SILENT, **data: Any) -> Chain:
    """Open the chain with all labels, and make its full plan. All errors in data and options are found here.

    Raises:
        UserError: see `self_train`.
    """
    method = method_of(config)  # names and arguments are checked before anything is loaded
    refuse_parts_of_models()
    data = given_data(**data)
    named, device = sources(config, **data), resolve_device(config.device)
    _refuse_missing(config, named, method)
    assert config.output is not None
    check_options(config, method, named)
    for source in named.values():
        source_kind(source)  # a missing file is refused before an encoder is loaded
    _read_standard_input(named, device, reporter)
    zero_shot, encoders = is_zero_shot(config, named), find_encoders(config, named)
    if zero_shot:
        method = without_labels(config, method, encoders[0])
    directory, prints, replaced = RunDirectory(config.output), {}, False
    recorded = config.to_yaml()
    with _nothing_left_of_a_bad_start(directory.path):
        with main_process_first(device) as first:
            if first:
                prints = fingerprints(named, config.descriptions)
                replaceable = replaceable_sources(config, named, directory)
                replaced = directory.claim(recorded, prints, config.defaults(), replaceable)
        if len(encoders) == 1:  # of several, only the chosen one is tried, as soon as it is known
            config, method = _fitted(encoders[0], config, method, directory, reporter)
        with main_process_first(device) as first:
            notes = reporter if first else SILENT
            texts = read_texts(
                config, named, directory.corpus, notes, texts_wanted(config, method),
                needs_corpus=rounds_of_run(config, method) > 0,
            )  # fmt: skip
        _check_corpus(config, texts)
        # All processes embed the rows together, so none may wait for another one here and for the weights of class texts.
        encoder = choose_encoder(encoders, texts, config, directory, reporter, method.first)
        if len(encoders) > 1:
            config, method = _fitted(encoder, config, method, directory, reporter)
        wait_for_everyone()  # an error in the plan empties the folder, so no process may still write the corpus
        with main_process_first(device) as first:
            tokens = tokenize_texts(
                texts, encoder.tokenizer, encoder.limit, config, directory.data, reporter if first else SILENT
            )
            chain = _planned(config, method, texts, tokens, encoder.tokenizer, directory, reporter)
        chain = replace(chain, reading=chosen_reading(chain))
        chain = replace(chain, class_texts=weighed_class_texts(chain))
        if from_main_process(replaced):
            if is_main_process():
                _measure_anew(chain, recorded, prints)
            wait_for_everyone()
        if is_main_process():
            directory.write_rows(texts.accounted())
            if replaced or not directory.rounds() or not directory.checkup.exists():  # it goes with damaged data
                check_texts(texts, directory.checkup, config.seed, reporter)
        return chain


def _read_standard_input(named: Mapping[str, Any], device: Any, reporter: Reporter) -> None:
    """Read standard input to its end, if it is a source: the fingerprint of its content tells what run the folder has.

    Raises:
        UserError: there are several processes. Only one of them has it.
    """
    if STDIN not in [source for source in named.values() if isinstance(source, str)]:
        return
    if number_of_processes(device) > 1:
        raise UserError("standard input: several processes cannot read it; write the texts to a file first")
    with reporter.phase("reading standard input", None, "byte") as tick:
        standard_input(tick)


def replaceable_sources(config: RunConfig, named: Mapping[str, Any], directory: RunDirectory) -> tuple[str, ...]:
    """Sources that a run in this folder may replace by others: the test rows, because nothing is trained or chosen by them.

    A `sample` without a test file takes its test rows from the labeled rows. With one, it draws other rows for training.
    """
    before = directory.read_data().get("fingerprints", {})
    return () if config.sample and ("test" in named) != ("test" in before) else ("test",)


def _measure_anew(chain: Chain, recorded: str, prints: Mapping[str, str]) -> None:
    """Take other test rows into a run that has begun: its models stay, and what was measured is measured again."""
    directory, plan = chain.directory, chain.directory.read_plan()
    finished = directory.results.exists()
    directory.replace_sources(recorded, prints)
    if chain.config.budget is None:
        directory.write_plan(chain.plan.record())  # it says whether plain fine-tuning is measured beside the model
    elif plan is not None and chain.plan.plain is None:  # a plan that was cut to a budget is kept
        directory.write_plan({**plan, "compared": None})
    chain.reporter.note(
        f"{directory.path}: only the test rows have changed; its models stay"
        + (", and are measured again" if finished else "")
    )


def _refuse_missing(config: RunConfig, named: Mapping[str, Any], method: Method) -> None:
    """Name all options that a run lacks at once.

    Raises:
        MissingOptionsError: there are some.
    """
    learns_from_corpus = rounds_of_run(config, method) > 0 or any(stage.reads_corpus for stage in method.first)
    there = {
        "labeled": "labeled" in named or config.descriptions not in (None, "names", "none"),
        # Rows of the labeled file may have no label, which is known only when it is read.
        "unlabeled": bool({"unlabeled", "labeled"} & named.keys()) or bool(config.sample) or not learns_from_corpus,
        "encoder": bool(config.encoders),
        "output": config.output is not None,
    }
    missing = [name for name in there if not there[name]]
    if len(missing) > 1:
        *most, last = (spelled(name) for name in missing)
        one_file = f" (one file with all texts, {spelled('data', 'my.csv')}, may replace the first two)"
        both = one_file if {"labeled", "unlabeled"} <= set(missing) else ""
        raise MissingOptionsError(f"missing options: {', '.join(most)} and {last}{both}", *missing)
    if missing == ["output"]:
        raise MissingOptionsError(f"output: no folder for the run; give {spelled('output', 'out')}", "output")


def _fitted(
    encoder: Encoder, config: RunConfig, method: Method, directory: RunDirectory, reporter: Reporter
) -> tuple[RunConfig, Method]:
    """The options and the method of a run, as they fit its encoder. What cannot fit is refused."""
    config = with_prefix_of(encoder, config.with_encoder(encoder.name), reporter)
    config = with_edits_of(encoder, config, reporter)
    linear = has_linear_head(encoder.config)
    if not linear and method.plain is not None and is_main_process():
        kind = encoder.config.model_type
        reporter.note(
            f"encoder: the head of {kind} cannot be a regression on the embeddings of the encoder; {config.method} begins "
            "with plain fine-tuning instead"
        )
    elif config.pooling == "native" and method.first[0].frozen and is_main_process():
        reporter.note(f"pooling: {spelled('pooling', 'native')}, so that {config.method} begins with plain fine-tuning")
    if config.pooling == "native" or not linear:
        method = method.without_frozen()  # every method loses its regression, too
    if not directory.rounds():  # a run that is continued has tried it
        check_encoder(encoder, config, method, reporter if is_main_process() else SILENT)
    return config, method


def _check_corpus(config: RunConfig, texts: Texts) -> None:
    objective = build(config.method, config.method_args, config.regularizers)
    if not objective.supervised and texts.unlabeled is None:
        name = named_method(config.method, config.regularizers)
        raise UserError(f"method: {name} learns from unlabeled texts; give {spelled('unlabeled', 'corpus.jsonl')}")


def _planned(
    config: RunConfig, method: Method, texts: Texts, tokens: Tokens, tokenizer: Any, directory: RunDirectory,
    reporter: Reporter,
) -> Chain:  # fmt: skip
    """The chain with all labels, with its full plan. Options that do not fit are refused."""
    if config.max_length is not None:
        tokenizer.model_max_length = tokens.max_length  # predictions then read as far as the user asked for
    # The number of descriptions says nothing about the class shares of the corpus.
    labels = np.arange(len(texts.classes)) if texts.zero_shot else np.asarray(texts.labeled.texts["label"][:])
    shares = ClassShares.resolve(config.prior, labels, texts.classes, estimate=method.follows_shares)
    plan = make_plan(
        config,
        labeled=len(tokens.labeled),
        corpus=len(tokens.corpus) if tokens.corpus is not None else 0,
        folds=0 if texts.zero_shot else folds_of(config, method, tokens),
        test=len(texts.test.texts) if texts.test is not None else 0,
        dev=len(tokens.dev) if tokens.dev is not None else 0,
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
            "too few labels to hold any out: self-training cannot be checked; label more texts, or give "
            f"{spelled('dev')}"
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
            f"method: {config.method} learns from labeled texts; give {spelled('labeled', 'my.csv')}, or leave out "
            f"{spelled('method')} (auto can start from {spelled('descriptions')} alone)"
        )
    if config.pooling == "native":
        raise UserError(
            "pooling: without labels, the head must read the embeddings; leave out "
            f"{spelled('pooling', 'native')}, or give {spelled('labeled')}"
        )
    if not has_linear_head(encoder.config):
        raise UserError(
            "encoder: without labels, the head must be linear in the embeddings of the texts, and that of "
            f"{encoder.config.model_type} is not; choose one of the kinds {listed(list(FAMILIES))}, or give "
            f"{spelled('labeled')}"
        )
    return made


def folds_of(config: RunConfig, method: Method, tokens: Tokens) -> int:
    """Number of cross-fitted chains. Without the option, it is that of the method if there are enough labels, otherwise 0."""
    if config.folds is not None:
        return config.folds
    enough = texts_for_folds(tokens.labeled) >= TEXTS_PER_FOLD * method.folds
    return method.folds if tokens.dev is None and enough else 0


def check(chain: Chain) -> None:
    """Find options that do not fit the data, before anything is trained.

    Raises:
        UserError: arguments of the method or class weights that do not fit the classes.
    """
    config, plan, method = chain.config, chain.plan, chain.plan.method
    selection = method.selection
    objective = build(config.method, config.method_args, config.regularizers).bind(len(chain.texts.classes), 0)
    classes = chain.texts.classes
    class_weights(config.class_weight, np.ones(len(classes)), dict(enumerate(classes)))
    for name in _options_of_no_effect(config, method):
        chain.reporter.note(f"{name} has no effect: {config.method} selects rows in its own way")
    reads_class_texts = any(stage.reads_class_texts for stage in plan.stages)
    if config.descriptions not in (None, "names", "none") and not reads_class_texts:
        chain.reporter.note(f"descriptions has no effect: {config.method} reads no descriptions of the classes")
    noisy = plan.rounds and selection is not None and selection.noise
    edited = noisy or objective.wants_strong
    if config.views and chain.tokens.corpus is not None and not edited:
        chain.reporter.note(f"views has no effect: {config.method} makes no changed copies of texts")


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
    unused = not existed or (folder.is_dir() and not _files_of_a_run(folder))
    try:
        yield
    except UserError:
        if is_main_process() and unused and folder.is_dir():
            for file in _files_of_a_run(folder):
                with suppress(OSError):
                    remove(file)
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
        raise


def _files_of_a_run(folder: Path) -> list[Path]:
    """The files and folders in a folder, without those of its owner."""
    return [file for file in folder.iterdir() if file.name not in (LOCK, OWNER)]
