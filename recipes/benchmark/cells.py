"""What is measured: profiles, which rows a cell gets, and how each method is run in it. Pure but for `read_set`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peers import PEERS
from told import FIRST, NAMES, NOTHING, TOLD

from sstext.data.sampling import few_labels
from sstext.errors import UserError, listed
from sstext.methods.registry import METHODS, OF_ROUNDS

SAMPLE = "support_tickets"
SAMPLE_FOLDER = Path(__file__).parents[2] / "data" / SAMPLE
#: Tokens of a text that are read, where it is not DEFAULT_LENGTH.
MAX_LENGTH = {"imdb": 128, "newsgroups20": 256, SAMPLE: 96}
DEFAULT_LENGTH = 64
#: Validation rows follow the pool: as many as there are, up to the larger number; the pool leaves them the smaller one.
VALIDATION_ROWS = (300, 2_000)
#: Rounds of the methods that work between rounds.
ROUNDS = 3
#: Labeled rows: n of each class, which nobody has who draws texts to label them; or as many rows, drawn at random, or chosen
#: (`choosing.py`).
BALANCED, RANDOM, MEDOIDS, SUGGESTED, TWO_STEPS = DRAWS = (
    "balanced",
    "random",
    "medoids",
    "suggested",
    "suggested twice",
)

SUPERVISED = "supervised"
#: What a user would have without any training.
FROZEN = "logistic regression (frozen)"
ALL_LABELS = "all pool labels"
#: The regression of sstext itself on frozen embeddings: it measures rows that are labeled, in no time.
PROBE = "probe (frozen)"
#: `auto` with one thing changed: what its ingredients are worth (`ablations.py`).
ABLATIONS: dict[str, dict[str, Any]] = {
    "auto, no folds": {"folds": 0},
    "auto, 2 folds": {"folds": 2},
    "auto, 5 folds": {"folds": 5},
    "auto, contrast 1": {"method_args": {"contrast": 1}},
    "auto, hard labels": {"method_args": {"labels": "hard"}},
    "auto, best half": {"keep": [0.5]},
    "auto, unaligned": {"prior": "none"},
    "auto, unmasked": {"edits": {"mask": 0.0}},
    "auto, R-Drop": {"regularizers": {"r-drop": 1.0}},
    "auto, from pretrained": {"method_args": {"start": "pretrained"}},
    "auto, two rounds": {"rounds": 2},
    "auto, plain": {"method_args": {"plain": True}},
}
#: All that can be measured: the methods, other people's, two marks to see them by, and parts of `auto`.
COMPETITORS = (*METHODS, *PEERS, ALL_LABELS, PROBE, *ABLATIONS)
#: Those that can be told something of the classes; the others read labels alone, and have one cell for everything told.
TELLABLE = ("auto", *ABLATIONS, *PEERS)
#: What `auto` is compared with in the profiles quick and full; the methods have the profile glance.
AGAINST_PEERS = ("auto", SUPERVISED, "self-training", *PEERS, ALL_LABELS)


@dataclass(frozen=True)
class Profile:
    """How much of the benchmark is run.

    Attributes:
        sets: name of a data set → labeled rows per class, each number a cell.
        pool: unlabeled rows, at most.
        test: rows that are measured on, at most.
        steps: optimizer steps of a phase; None: sstext's default.
        methods: what is run where nobody says.
        on: rows that are measured on where nobody says: test, or validation, by which settings are chosen.
        told: what methods are told of the classes where nobody says; names are what `auto` reads by default.
        draws: how labeled rows are drawn where nobody says.
        compares_draws: whether the draws are compared by one method, and not the methods by one draw.
    """

    name: str
    sets: Mapping[str, tuple[int, ...]]
    pool: int
    test: int
    seeds: tuple[int, ...]
    steps: int | None
    methods: tuple[str, ...]
    on: str = "test"
    told: tuple[str, ...] = (NAMES,)
    draws: tuple[str, ...] = (BALANCED,)
    compares_draws: bool = False


_QUICK_SETS = ("ag_news", "sst2", "trec6", SAMPLE)
_SUGGEST_SETS = (*_QUICK_SETS, "sms_spam", "hate_offensive", "newsgroups20", "banking77")
_FULL_SETS = ("ag_news", "imdb", "sst2", "trec6", "newsgroups20", "goemotions", "hate_offensive", SAMPLE)
PROFILES = {
    profile.name: profile
    for profile in (
        Profile("glance", {"ag_news": (10,), SAMPLE: (10,)}, pool=2_000, test=1_000, seeds=(0, 1), steps=60,
                methods=(*METHODS, ALL_LABELS)),
        Profile("quick", dict.fromkeys(_QUICK_SETS, (10,)), pool=2_000, test=1_000, seeds=(0, 1, 2), steps=None,
                methods=AGAINST_PEERS),
        Profile("ablation", dict.fromkeys(_QUICK_SETS, (10,)), pool=2_000, test=1_000, seeds=(0, 1, 2), steps=None,
                methods=("auto", *ABLATIONS), on="validation"),
        Profile("generation2", dict.fromkeys(_QUICK_SETS, (10,)), pool=2_000, test=1_000, seeds=(0, 1, 2), steps=None,
                methods=("auto", SUPERVISED, "SetFit", FROZEN, ALL_LABELS), told=TOLD, draws=DRAWS),
        # Balanced labels of a corpus that is not balanced: the rows of the profile full, where `auto` did harm at first.
        Profile("skewed", dict.fromkeys(("hate_offensive", "sms_spam"), (10,)), pool=4_000, test=2_000, seeds=(0, 1, 2),
                steps=None, methods=("auto", SUPERVISED, "SetFit", FROZEN), told=TOLD),
        Profile("suggest", dict.fromkeys(_SUGGEST_SETS, (5, 10)), pool=1_000, test=300, seeds=(0, 1, 2, 3, 4), steps=None,
                methods=(PROBE,), draws=(RANDOM, MEDOIDS, SUGGESTED, TWO_STEPS, BALANCED), compares_draws=True),
        Profile(
            "full",
            dict.fromkeys(_FULL_SETS, (5, 10, 50)) | {"banking77": (3, 5, 10)},
            pool=4_000, test=2_000, seeds=(0, 1, 2, 3, 4), steps=None,
            methods=(*METHODS, *PEERS, ALL_LABELS),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One measurement; two cells are the same where all of this is.

    Attributes:
        n: labeled rows per class.
        seed: of the rows and of the training.
        method: one of `COMPETITORS`.
        settings: "pool" and "test", the most rows of each; "on", the rows that are measured on (test or validation);
            "told" and "draw", one of `TOLD` and of `DRAWS`, which cells of the first generation lack; "run", the options of
            `sstext.RunConfig` that are not its defaults, apart from `descriptions`, which follow from "told".
    """

    set: str
    n: int
    seed: int
    method: str
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """What tells this cell from all others."""
        return key_of(asdict(self))

    @property
    def told(self) -> str:
        return told_in(self.settings)

    @property
    def draw(self) -> str:
        return draw_in(self.settings)

    def __str__(self) -> str:
        told = f", {self.told}" if self.told in TOLD and self.method in TELLABLE else ""
        drawn = f", {self.draw} draw" if self.draw != BALANCED else ""
        return f"{self.set}, n = {self.n}, seed {self.seed}, {self.method}{told}{drawn}"


def key_of(row: Mapping[str, Any]) -> str:
    """`Cell.key` of a result."""
    return json.dumps([row[name] for name in ("set", "n", "seed", "method", "settings")], sort_keys=True)


def told_in(settings: Mapping[str, Any]) -> str:
    """What a cell with these settings is told: one of `TOLD`, or `FIRST`."""
    return settings.get("told", FIRST)


def draw_in(settings: Mapping[str, Any]) -> str:
    """How the labeled rows of a cell with these settings are drawn."""
    return settings.get("draw", BALANCED)


def plan(
    profile: Profile,
    *,
    encoder: str = "demo",
    on: str | None = None,
    told: Sequence[str] | None = None,
    draws: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    sets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    n: Sequence[int] | None = None,
) -> list[Cell]:
    """The cells of a profile, or of a part of it; all methods of a place (set, n, seed) follow each other.

    Args:
        encoder: its name in the results.
        told: of `TOLD`; or `FIRST` alone, for the cells of the first generation.
        n: labeled rows per class. Default: those of the profile, which differ between its sets.

    Raises:
        UserError: a method, a set or a number of rows that is not there.
    """
    methods = methods if methods is not None else profile.methods
    for name, asked, known in (("methods", methods, COMPETITORS), ("sets", sets or (), profile.sets)):
        if unknown := [value for value in asked if value not in known]:
            there = f"expected names among {listed(list(known), limit=99)}"
            raise UserError(f"{name}: {there}, found {listed(unknown)}")
    sizes = {name: [size for size in profile.sets[name] if n is None or size in n] for name in (sets or profile.sets)}
    if not any(sizes.values()):
        known = sorted({size for name in sizes for size in profile.sets[name]})
        raise UserError(f"n: expected some of {listed(known, limit=99)}, found {listed(list(n or ()))}")
    return [
        Cell(
            set=name, n=size, seed=seed, method=method,
            settings={
                "pool": profile.pool, "test": profile.test, "on": on or profile.on,
                **({} if knows == FIRST else {"told": knows, "draw": draw}),
                "run": {"encoder": encoder, "max_length": MAX_LENGTH.get(name, DEFAULT_LENGTH)}
                | options_of(method, profile.steps),
            },
        )
        for seed in (profile.seeds if seeds is None else seeds)
        for name in sizes
        for size in sizes[name]
        for draw in (draws or profile.draws)
        for method in methods
        for knows in _told_to(method, told or profile.told)
    ]  # fmt: skip


def _told_to(method: str, told: Sequence[str]) -> list[str]:
    """What a method is told, each a cell: nothing, once, where it cannot be told more."""
    return list(dict.fromkeys(one if method in TELLABLE or one == FIRST else NOTHING for one in told))


def as_told(cells: Sequence[Cell], told: str) -> list[Cell]:
    """The cells of methods that are told this, and of those that cannot be told anything: each method once in a place."""
    return [cell for cell in cells if cell.told == told or cell.method not in TELLABLE]


def options_of(method: str, steps: int | None) -> dict[str, Any]:
    """The options of `sstext.RunConfig` that a competitor is run with, the same on all sets; the rest are its defaults.

    What acts inside a step is judged in one phase, what acts between rounds in four; a peer has settings of its own.
    `ALL_LABELS` shows what the labels are worth that the others do not see: it takes the default number of steps, enough to
    read them all.
    """
    if method in PEERS or method == PROBE:
        return {}
    if method == ALL_LABELS:
        return {"method": SUPERVISED, "rounds": 0}
    if method == "auto" or method in ABLATIONS:
        return {"method": "auto", "steps": steps, "round_steps": steps} | ABLATIONS.get(method, {})
    if method in OF_ROUNDS:
        return {"method": method, "rounds": ROUNDS, "steps": steps, "round_steps": steps}
    return {"method": method, "rounds": 0, "steps": steps}


@dataclass(frozen=True)
class Split:
    """Rows of a training file by their part, as positions: none is in two parts."""

    labeled: np.ndarray
    pool: np.ndarray
    validation: np.ndarray


def split_rows(
    labels: Sequence[str],
    *,
    n: int,
    seed: int,
    pool: int,
    draw: str = BALANCED,
    choose: Callable[[np.ndarray, int], np.ndarray] | None = None,
) -> Split:
    """The rows of a cell, from p = default_rng(seed).permutation(N).

    Labeled: the first n of each class in the order p (all of a class that has fewer); in a random draw, the first n C rows,
    whatever their classes, for C classes of the file; in other draws, the n C rows that are chosen of the first ones and of the
    pool of a random draw. Pool: the next rows, `pool` at most, and so few that 300 are left.
    Validation: the 2,000 after the pool, or what there is.

    Args:
        labels: (N,) classes of the training file.
        choose: chooses so many of the given rows, for draws that are neither balanced nor random.

    Raises:
        UserError: too few rows for a pool.

    >>> split_rows(["a", "b"] * 200, n=10, seed=0, pool=50).validation.size
    330
    """
    if draw != BALANCED:
        order = np.random.default_rng(seed).permutation(len(labels))
        labeled, rest = np.split(order, [n * len(set(labels))])
    else:
        labeled, rest = few_labels(labels, n=n, seed=seed)
    least, most = VALIDATION_ROWS
    size = min(pool, len(rest) - least)
    if size < 1:
        raise UserError(
            f"expected more than {least} training rows beside the {len(labeled)} labeled, found {len(rest)}"
        )
    unlabeled, validation = rest[:size], rest[size : size + most]
    if choose is not None and draw not in (BALANCED, RANDOM):
        candidates, count = np.concatenate([labeled, unlabeled]), len(labeled)
        labeled = choose(candidates, count)
        unlabeled = candidates[~np.isin(candidates, labeled)]
    return Split(labeled, unlabeled, validation)


def read_set(name: str, data: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows of a data set, columns text and label; support_tickets is the sample of this repository.

    Raises:
        UserError: the set is not in the folder.
    """
    if name == SAMPLE:
        labeled, test, answers = (
            pd.read_csv(SAMPLE_FOLDER / file, dtype=str, keep_default_na=False)
            for file in ("labeled.csv", "test.csv", "unlabeled_answers.csv")
        )
        unlabeled = pd.read_json(SAMPLE_FOLDER / "unlabeled.jsonl", lines=True, dtype=False)
        return pd.concat([labeled, unlabeled.assign(label=answers["label"])], ignore_index=True), test
    if data is None:
        raise UserError(f"{name}: no folder with the data sets; give --data, or set SSTEXT_BENCH_DATA")
    files = [data / name / f"{part}.parquet" for part in ("train", "test")]
    for file in files:
        if not file.is_file():
            raise UserError(f"{name}: expected {file}, a table with the columns text and label; see --data and --sets")
    train, test = (pd.read_parquet(file, columns=["text", "label"]) for file in files)
    return train, test
