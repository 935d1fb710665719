"""The round loop. Read this first: the rest of the package is what its lines call.

Round 0 fine-tunes a pretrained encoder on the labeled rows. Each further round scores the unlabeled corpus with the last
student, keeps the rows it may trust, and trains the next student on labeled + kept rows. Pseudo-labels are derived anew in
every round, gold rows are never rewritten, and every finished round is a line of `rounds.jsonl` from which a killed run goes
on.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from sstext.chain import Chain, Fit
from sstext.config import RunConfig
from sstext.data.preparing import fingerprints, read_texts, sources, tokenize_texts
from sstext.data.tokens import length_limit
from sstext.errors import UserError
from sstext.inference import (
    explained,
    is_main_process,
    load_tokenizer,
    main_process_first,
    resolve_device,
    wait_for_everyone,
)
from sstext.objective.methods import build
from sstext.progress import SILENT, Reporter
from sstext.run_directory import RunDirectory
from sstext.selection import Selection, resolve_prior
from sstext.student import encoder_path


@dataclass(frozen=True)
class Round:
    """What happened in one round.

    Attributes:
        index: 0 is supervised fine-tuning.
        admitted: pseudo-labeled rows that its student was trained on, one that joined several times as often as it did.
        coverage: share of the corpus that joined.
        per_class: their number by class.
        audit_precision: share of them whose pseudo-label is right, where true labels were given for audit.
        temperature: fitted on the development rows; 1 without any.
        agreement: share of the corpus with the same predicted class as one round before.
        metrics: accuracy and macro-F1 on the development rows.
        steps: optimizer steps.
        seconds: wall time of the round.
        stopped_because: why there is no further round; None where there is.
    """

    index: int
    admitted: int
    coverage: float
    per_class: dict[str, int]
    audit_precision: float | None
    temperature: float
    agreement: float | None
    metrics: dict[str, float]
    steps: int
    seconds: float
    stopped_because: str | None


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
    yield from run_rounds(open_chain(config, reporter, **data))


def run_rounds(chain: Chain) -> Iterator[Round]:
    """The loop itself, on data that is ready."""
    config, directory = chain.config, chain.directory
    done = [Round(**record) for record in directory.rounds()]
    yield from done
    if done and done[-1].stopped_because is not None:
        return

    for index in range(len(done), config.rounds + 1):
        began = time.monotonic()
        admitted = chain.admitted(index)
        fit = chain.fit(index, admitted)

        agreement, stopped_because = None, None
        if index == config.rounds:
            stopped_because = "all rounds are done"
        else:
            logits = chain.score(index)
            agreement = agreement_with_previous(chain, index, logits)
            if agreement is not None and agreement >= config.stop_agreement:
                stopped_because = f"nothing changes any more: {agreement:.1%} of the corpus kept its class"
            elif len(chain.admit(index + 1, logits, fit.temperature)) == 0:
                stopped_because = chain.admission.refusal(config.min_confidence)

        record = describe(chain, index, admitted, fit, agreement, stopped_because, time.monotonic() - began)
        if is_main_process():
            directory.append_round(asdict(record))
        wait_for_everyone()
        yield record
        if stopped_because is not None:
            return


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
    named = sources(config, **data)
    path = encoder_path(config.encoder)
    tokenizer = load_tokenizer(path, config.revision)
    with explained(path):
        limit = length_limit(tokenizer, AutoConfig.from_pretrained(path, revision=config.revision))
    directory = RunDirectory(config.output)
    with (
        main_process_first(resolve_device(config.device)) as first,
        _nothing_left_of_a_bad_start(directory.path, first),
    ):
        if first:
            directory.claim(config.to_yaml(), fingerprints(named))
        notes = reporter if first else SILENT
        texts = read_texts(config, named, directory.data / "unlabeled.arrow", notes)
        tokens = tokenize_texts(texts, tokenizer, limit, config, directory.data, notes)
        if config.max_length is not None:
            tokenizer.model_max_length = tokens.max_length  # predictions then read as far as the user asked for
        labels = np.asarray(texts.labeled.texts["label"][:])
        prior = resolve_prior(config.prior, labels, texts.classes)
        chain = Chain(config, texts, tokens, tokenizer, prior, directory, reporter)
        chain.check()
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


def agreement_with_previous(chain: Chain, index: int, logits: np.ndarray) -> float | None:
    """Share of the corpus whose predicted class is the same as one round before; None in round 0."""
    if index == 0:
        return None
    return float(np.mean(logits.argmax(-1) == chain.score(index - 1).argmax(-1)))


def describe(
    chain: Chain,
    index: int,
    admitted: Selection | None,
    fit: Fit,
    agreement: float | None,
    stopped_because: str | None,
    seconds: float,
) -> Round:
    """The record of a round."""
    labels = admitted.labels if admitted is not None else np.zeros(0, dtype=np.int64)
    joined = len(np.unique(admitted.rows)) if admitted is not None else 0
    counts = np.bincount(labels, minlength=len(chain.texts.classes))
    precision = None
    if admitted is not None and chain.texts.audit is not None:
        precision = float(np.mean(labels == chain.texts.audit[admitted.rows]))
    return Round(
        index=index,
        admitted=len(labels),
        coverage=joined / max(1, len(chain.tokens.corpus) if chain.tokens.corpus is not None else 0),
        per_class={name: int(count) for name, count in zip(chain.texts.classes, counts, strict=True)},
        audit_precision=precision,
        temperature=fit.temperature,
        agreement=agreement,
        metrics=fit.metrics,
        steps=fit.steps,
        seconds=seconds,
        stopped_because=stopped_because,
    )
