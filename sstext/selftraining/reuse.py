"""What a training depends on, as a hash; and trainings of an earlier run that need not be repeated, because it is the same.

`sstext train out --keep 0.3` makes a run like `out`, with one other option. What this option does not change is taken from
`out`: in this example the teachers, which never see what is kept. No table says what depends on what. The hash contains all
that a training reads, so that a forgotten dependence is impossible for rows and weights, and every option counts unless it is
known to act through these alone.
"""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import accelerate
import torch
import transformers
import xxhash
from accelerate import PartialState

from sstext.data.batching import INPUTS
from sstext.data.tokens import VIEW_INPUTS
from sstext.inference.devices import resolve_device
from sstext.methods.method import Stage
from sstext.modeling.digests import add_rows, add_weights
from sstext.pseudolabels.selection import Selection
from sstext.storage.damage import DamagedFileError, check, read_json
from sstext.storage.run_folder import FIT, MODEL

if TYPE_CHECKING:
    from sstext.selftraining.chain import Chain

#: Options that reach a training only through its rows, its pseudo-labels and its schedule, which the hash contains, or not at
#: all.
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
    schedule, device = stage.schedule, resolve_device(chain.config.device)
    how = (
        json.dumps(options, sort_keys=True, default=repr), chain.students.seed(stage),
        chain.steps(stage, len(selected) if selected else 0),
        schedule.batch_size, schedule.learning_rate, schedule.of_rounds, stage.frozen, stage.noise, stage.regression_head,
        chain.texts.classes, chain.texts.zero_shot, chain.tokens.max_length,
        version("sstext"), torch.__version__, transformers.__version__, accelerate.__version__,
        device.type, torch.get_num_threads(), PartialState().num_processes,
    )  # fmt: skip
    digest = xxhash.xxh3_128(repr(how).encode("utf-8", "surrogatepass"))
    add_weights(digest, student.state_dict().items())
    add_rows(digest, _read(chain.rows_of(stage).labeled))
    told = chain.class_texts
    if stage.regression_head and told is not None:
        digest.update(repr(told.weight).encode())
        add_rows(digest, _read(told.tokens))
    if chain.tokens.dev is not None:  # the best step is chosen on these rows
        add_rows(digest, _read(chain.tokens.dev))
    if stage.reads_corpus:
        add_rows(digest, _read(chain.tokens.corpus))
    if selected is not None:
        labels = selected.labels if selected.targets is None else selected.targets
        for values in (selected.rows, labels, selected.weight):
            digest.update(f"{values.shape} {values.dtype}".encode())
            digest.update(values.tobytes())
        add_rows(digest, _read(chain.tokens.corpus.select(selected.rows)))
    return digest.hexdigest()


def key_of_scores(chain: "Chain", stage: Stage, key: str) -> str:
    """The hash of all that the predictions of a trained student for the rows of a run depend on.

    Args:
        key: of its training.
    """
    digest = xxhash.xxh3_128(f"{key} {stage.labels_with} {chain.students.has_probe}".encode())
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
    """The folder of a stage of an earlier run whose training has this hash, or None. Its files are checked."""
    for file in sorted([*earlier.glob(f"*/{FIT}"), *earlier.glob(f"*/*/{FIT}")]):
        try:
            fit = read_json(file)
            if fit.get("key") == key and (file.parent / MODEL).is_dir():
                check(file.parent)
                return file.parent
        except DamagedFileError:
            continue  # it is trained again
    return None


def _read(rows: Any) -> Any:
    """The columns of rows that a training reads."""
    return rows.select_columns([name for name in (*INPUTS, VIEW_INPUTS, "labels") if name in rows.column_names])
