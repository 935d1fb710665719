"""The round loop. Read this first: the rest of the package is what its lines call.

Round 0 fine-tunes a pretrained encoder on the labeled rows. Each further round scores the unlabeled corpus with the last
student, keeps the rows it may trust, and trains the next student on labeled + kept rows. Pseudo-labels are derived anew in
every round, gold rows are never rewritten, and every finished round is a line of `rounds.jsonl` from which a killed run goes
on.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from sstext import side_by_side
from sstext.arguments import reads_corpus, round_admission, texts_wanted
from sstext.chain import Chain
from sstext.checks import check
from sstext.config.run_config import RunConfig
from sstext.cross_fitting import corpus_weights, cross_fitted, evidence, out_of_fold, with_all_labels
from sstext.data.preparing import fingerprints, read_texts, sources, tokenize_texts
from sstext.errors import UserError
from sstext.evaluation.calibration import softmax
from sstext.inference.devices import resolve_device
from sstext.methods.registry import BETWEEN_ROUNDS, build
from sstext.methods.rounds import FOLDS
from sstext.model_selection import Verdict, belief_in, judge
from sstext.modeling.pretrained import encoder_path, explained, length_limit, load_tokenizer
from sstext.processes import is_main_process, main_process_first, wait_for_everyone
from sstext.progress import SILENT, Reporter
from sstext.pseudolabels.class_shares import balanced, resolve_prior
from sstext.pseudolabels.selection import Selection
from sstext.storage.run_folder import RunDirectory
from sstext.students import Fit
from sstext.training.loggers import figures_of_round, tracked


@dataclass(frozen=True)
class Round:
    """What happened in one round.

    Attributes:
        index: 0 is supervised fine-tuning.
        admitted: pseudo-labeled rows that its student was trained on, one that joined several times as often as it did.
        coverage: share of the corpus that joined (of the part of it that was drawn, where it is too large).
        per_class: their number by class.
        audit_precision: share of them whose pseudo-label is right, where true labels were given for audit.
        temperature: what calibrates its student, by out-of-fold or development rows, else as in `sstext.students.Fit`.
        agreement: share of the corpus with the same predicted class as one round before.
        metrics: accuracy and macro-F1 on the development rows.
        steps: optimizer steps, of all chains together.
        seconds: wall time of the round.
        stopped_because: why there is no further round; None where there is.
        estimated_precision: share of them that is expected to be right, by calibrated confidence (with folds).
        out_of_fold: log-loss (nats), accuracy and macro-F1 of labeled rows by students that never saw them (with folds).
        gain: in out-of-fold log-loss over supervised, rows weighed so that they stand for the corpus: observed, its standard
            error, and expected with what is known beforehand.
        refused: why it may not be chosen; None where it may.
        class_shares: of the classes predicted for the corpus (with folds).
        chain_agreement: share of the corpus of which two chains say the same (with folds).
        reads_corpus: whether its student learned from unlabeled text inside its steps, as a method of that kind asks.

    With folds, counts and shares are means over the chains.
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
    estimated_precision: float | None = None
    out_of_fold: dict[str, float] = field(default_factory=dict)
    gain: dict[str, float] | None = None
    refused: str | None = None
    class_shares: dict[str, float] = field(default_factory=dict)
    chain_agreement: float | None = None
    reads_corpus: bool = False


@dataclass(frozen=True)
class Run:
    """The chains of a run.

    Attributes:
        whole: the chain that has all labels: it makes the model that is shipped.
        chains: those that go through the rounds: K cross-fitted ones, or `whole` alone.
        directory: the folder of the run.
    """

    whole: Chain
    chains: list[Chain]
    directory: RunDirectory

    @property
    def cross_fitted(self) -> bool:
        """Whether labeled rows are predicted by students that never saw them."""
        return self.chains[0].held_out is not None


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


def run_rounds(run: Run) -> Iterator[Round]:
    """The loop itself, on data that is ready. All chains make a round before any of them makes the next."""
    directory, chains = run.directory, run.chains
    done = [Round(**record) for record in directory.rounds()]
    yield from done
    run.whole.reporter.trained(sum(record.steps for record in done))
    if done and done[-1].stopped_because is not None:
        return

    for index in range(len(done), chains[0].last_round + 1):
        began = time.monotonic()
        admitted = [chain.admitted(index) for chain in chains]
        fits = side_by_side.fits(chains, index, admitted)

        agreement = agreement_with_previous(chains, index) if index < chains[0].last_round or run.cross_fitted else None
        compared = compared_with_supervised(run, index, agreement) if run.cross_fitted else {}
        if run.cross_fitted:
            compared["estimated_precision"] = estimated_precision(run.chains, index, admitted)
        stopped_because = compared.pop("stopped_because", None) or reason_to_stop(run, index, agreement)

        record = describe(
            run, index, admitted, fits, agreement=agreement, stopped_because=stopped_because,
            seconds=time.monotonic() - began, **compared,
        )  # fmt: skip
        if is_main_process():
            directory.append_round(asdict(record))
            run.whole.reporter.figures(figures_of_round(asdict(record)))
        wait_for_everyone()
        yield record
        if stopped_because is not None:
            return


def reason_to_stop(run: Run, index: int, agreement: float | None) -> str | None:
    """Why there is no further round; None where there is, and then the rows that it trains on have been admitted."""
    config, whole = run.whole.config, run.whole
    if index == whole.last_round:
        return "all rounds are done"
    if index + 1 < whole.admission.label_rounds:
        return None  # labels alone once more
    if agreement is not None and agreement >= config.stop_agreement:
        return f"nothing changes any more: {agreement:.1%} of the corpus kept its class"
    for chain in run.chains:
        if len(chain.admit(index + 1, chain.score(index), chain.score_temperature(index))) == 0:
            return chain.admission.refusal(config.min_confidence)
    return None


def agreement_with_previous(chains: Sequence[Chain], index: int) -> float | None:
    """Share of the corpus that keeps its class from the round before, mean over chains; None while labels alone are seen."""
    if index < chains[0].admission.label_rounds:
        return None
    same = [np.mean(chain.score(index).argmax(-1) == chain.score(index - 1).argmax(-1)) for chain in chains]
    return float(np.mean(same))


def estimated_precision(chains: Sequence[Chain], index: int, admitted: Sequence[Selection | None]) -> float | None:
    """Share of the rows of a round whose pseudo-label is expected to be right, mean over chains; None without any.

    The mean probability of the labels by the students that gave them, at the temperature that out-of-fold rows ask for (head
    and probe together are tempered already).
    """
    teacher = index - 1
    kept = [(chain, rows) for chain, rows in zip(chains, admitted, strict=True) if rows is not None and len(rows)]
    if not kept:
        return None
    temperature = 1.0
    if not chains[0].labels_with_probe(teacher):
        temperature = out_of_fold(chains, teacher, class_weights=corpus_weights(chains, teacher)).temperature()
    means = []
    for chain, rows in kept:
        probs = softmax(np.asarray(chain.score(teacher)[rows.rows], dtype=np.float64), temperature)
        means.append(probs[np.arange(len(rows)), rows.labels].mean())
    return float(np.mean(means))


def compared_with_supervised(run: Run, index: int, agreement: float | None) -> dict[str, Any]:
    """What labeled rows say of a round that its students never saw: fields of its record, and whether it ends the run."""
    weights = corpus_weights(run.chains, index)
    first = evidence(run.chains, 0, None, weights)
    found = evidence(run.chains, index, agreement, weights) if index else first
    verdict = Verdict(None, None)
    if index:
        verdict = judge([first, found], run.whole.prior, belief_in(run.whole.config.method))[1]
    shares = zip(run.whole.texts.classes, found.class_shares.tolist(), strict=True)
    # A start on labels alone that is a little worse may still teach: its probe labels, too, and the corpus is to come.
    ends = verdict.collapsed or index >= run.whole.admission.label_rounds
    return {
        "stopped_because": verdict.refused if ends else None,
        "out_of_fold": found.out_of_fold.metrics(),
        "temperature": found.out_of_fold.temperature(),
        "gain": None if verdict.gain is None else asdict(verdict.gain),
        "refused": verdict.refused,
        "class_shares": dict(shares),
        "chain_agreement": found.chain_agreement,
    }


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


def folds_of(whole: Chain) -> int:
    """How many chains are cross-fitted; 0: none."""
    config = whole.config
    if config.folds is not None:
        return config.folds
    labeled = whole.tokens.labeled
    texts = {(label, *tokens) for label, tokens in zip(labeled["labels"][:], labeled["input_ids"][:], strict=True)}
    _, counts = np.unique([label for label, *_ in texts], return_counts=True)
    enough = counts[counts > 1].sum() >= 2 * FOLDS
    return FOLDS if config.method == "auto" and whole.tokens.dev is None and enough else 0


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


def describe(run: Run, index: int, admitted: Sequence[Selection | None], fits: Sequence[Fit], **found: Any) -> Round:
    """The record of a round: what its chains trained on, and what was found out about it."""
    classes, corpus, audit = run.whole.texts.classes, run.whole.tokens.corpus, run.whole.texts.audit
    kept = [rows for rows in admitted if rows is not None]
    none = [np.zeros(len(classes), dtype=np.int64)]
    mean_counts = np.mean([np.bincount(rows.labels, minlength=len(classes)) for rows in kept] or none, axis=0)
    joined = np.mean([len(np.unique(rows.rows)) for rows in kept] or [0])
    right = [float(np.mean(rows.labels == audit[rows.rows])) for rows in kept if audit is not None]
    record: dict[str, Any] = {
        "index": index,
        "admitted": round(float(mean_counts.sum())),
        "coverage": float(joined) / max(1, len(corpus) if corpus is not None else 0),
        "per_class": {name: round(float(count)) for name, count in zip(classes, mean_counts, strict=True)},
        "audit_precision": float(np.mean(right)) if right else None,
        "temperature": fits[0].temperature,
        "metrics": fits[0].metrics,
        "steps": sum(fit.steps for fit in fits),
        "reads_corpus": reads_corpus(run.whole.config, index),
    }
    return Round(**record | found)
