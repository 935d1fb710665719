"""A hash of everything that a training depends on. With it, a run takes equal trainings from an earlier run.

`sstext train out --keep 0.3` makes a run like `out`, with one other option. What this option does not change is taken from
`out`: in this example the teachers, which never see what is kept. No table says which training depends on which option. The
hash contains the rows, the weights and the objective that a training begins with, and all options but those that act through
these alone.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import numpy as np
import torch
import transformers
import xxhash
from accelerate import PartialState

from sstext.data.batching import INPUTS
from sstext.data.tokens import VIEW_INPUTS
from sstext.inference.devices import resolve_device
from sstext.methods.method import Stage
from sstext.modeling.digests import add_rows, add_weights
from sstext.pseudolabels.class_shares import HALF_TRUSTED
from sstext.pseudolabels.regression import PENALTY
from sstext.pseudolabels.selection import Selection
from sstext.storage.damage import DamagedFileError, check, read_json
from sstext.storage.run_folder import FIT, MODEL
from sstext.storage.whole import copy_whole

if TYPE_CHECKING:
    from sstext.selftraining.chain import Chain

#: What regressions and probes depend on beside their rows.
RULES = repr((PENALTY, HALF_TRUSTED)).encode()
#: Options that reach a training only through its rows, its pseudo-labels, its objective and its schedule, which the hash
#: contains, or not at all.
NOT_READ = frozenset(
    {
        "data", "labeled", "unlabeled", "test", "dev", "audit", "allow_overlap", "corpus_size", "drop_near_duplicates",
        "sample", "text_column", "label_column", "unlabeled_value", "descriptions", "encoding",
        "rounds", "keep", "prior", "folds",
        "steps", "round_steps", "batch_size", "learning_rate", "budget",
        "output", "report_to", "workers", "engine",
    }
)  # fmt: skip


def key_of_training(chain: "Chain", stage: Stage, selected: Selection | None, student: Any) -> str:
    """The hash of all that the training of a stage depends on, and of the versions and the device that compute it.

    Args:
        selected: the pseudo-labels that it reads, or None.
        student: the student before the training: the encoder with its new head, or the student of the stage before.
    """
    options = {name: value for name, value in asdict(chain.config).items() if name not in NOT_READ}
    schedule, device, processes = stage.schedule, resolve_device(chain.config.device), PartialState()
    how = (
        json.dumps(options, sort_keys=True, default=repr), chain.students.seed(stage),
        chain.steps(stage, len(selected) if selected else 0),
        repr(stage.objective()), schedule.batch_size,
        schedule.learning_rate, schedule.of_rounds, stage.frozen, stage.noise, stage.regression_head,
        chain.texts.classes, chain.texts.zero_shot, chain.tokens.max_length,
        version("sstext"), torch.__version__, transformers.__version__, accelerate.__version__,
        device.type, torch.cuda.get_device_name(device) if device.type == "cuda" else "", chain.students.precision,
        torch.get_num_threads(), processes.num_processes, str(processes.distributed_type),
        _configuration(student), _vocabulary(chain.tokenizer),
    )  # fmt: skip
    digest = xxhash.xxh3_128(repr(how).encode("utf-8", "surrogatepass"))
    add_weights(digest, student.state_dict().items())
    add_rows(digest, _read(chain.rows_of(stage).labeled))
    told = chain.class_texts
    if stage.regression_head:
        digest.update(RULES)
    if stage.regression_head and told is not None:
        digest.update(repr(told.weight).encode())
        add_rows(digest, _read(told.tokens))
    if chain.tokens.dev is not None:  # the best step is chosen on these rows
        add_rows(digest, _read(chain.tokens.dev))
    if stage.reads_corpus:
        add_rows(digest, _read(chain.tokens.corpus))
    if selected is not None:
        for values in (selected.rows, selected.taught, selected.weight):
            digest.update(f"{values.shape} {values.dtype}".encode())
            digest.update(np.ascontiguousarray(values).data)
        add_rows(digest, _read(chain.tokens.corpus), selected.rows)
    return digest.hexdigest()


def key_of_scores(chain: "Chain", stage: Stage, key: str) -> str:
    """The hash of all that the predictions of a trained student for the rows of a run depend on.

    Args:
        key: of its training.
    """
    digest = xxhash.xxh3_128(f"{key} {stage.labels_with} {chain.students.has_probe}".encode())
    digest.update(RULES)  # of the probe
    told = chain.class_texts
    if told is not None:  # the probe reads them
        digest.update(repr(told.weight).encode())
        add_rows(digest, _read(told.tokens))
    for rows in (chain.tokens.labeled, chain.tokens.corpus, chain.held_out, chain.tokens.dev):
        digest.update(b"no rows" if rows is None else b"rows")
        if rows is not None:
            add_rows(digest, _read(rows))
    return digest.hexdigest()


def same_training(earlier: Path, key: str) -> Path | None:
    """The folder of a stage of an earlier run whose training has this hash, or None. Its model is checked."""
    for file in sorted([*earlier.glob(f"*/{FIT}"), *earlier.glob(f"*/*/{FIT}")]):
        try:
            fit = read_json(file)
            if fit.get("training_hash") == key and (file.parent / MODEL).is_dir():
                check(file.parent / MODEL)
                return file.parent
        except DamagedFileError:
            continue  # it is trained again
    return None


def copy_if_whole(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Copy files of a stage. Those that are missing or damaged are left out: what is needed is computed again."""
    for name in names:
        with suppress(DamagedFileError):
            check(source / name)
            if (source / name).exists():
                copy_whole(source / name, folder / name)


def _configuration(student: Any) -> str:
    """The configuration of a model, without its place and the version that wrote it."""
    entries = student.config.to_dict()
    return json.dumps(
        {name: entries[name] for name in entries if name not in ("_name_or_path", "transformers_version")},
        sort_keys=True, default=repr,
    )  # fmt: skip


def _vocabulary(tokenizer: Any) -> str:
    """A hash of the tokens and special tokens of a tokenizer."""
    special = sorted(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    known = type(tokenizer).__name__, tokenizer.padding_side, tokenizer.mask_token_id, special
    return xxhash.xxh3_128_hexdigest(
        repr((known, sorted(tokenizer.get_vocab().items()))).encode("utf-8", "surrogatepass")
    )


def _read(rows: Any) -> Any:
    """The columns of rows that a training reads."""
    return rows.select_columns([name for name in (*INPUTS, VIEW_INPUTS, "labels") if name in rows.column_names])
