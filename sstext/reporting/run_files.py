"""Reads the files of a run folder for a report. If a file is missing or damaged, its part is left out, with a note."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sstext.errors import UserError, listed
from sstext.reporting.readers import (
    UNREADABLE,
    Corpus,
    Predictions,
    TextToLabel,
    read_checkup,
    read_corpus,
    read_lines,
    read_mapping,
    read_precision_curve,
    read_predictions,
    read_texts_to_label,
)
from sstext.storage.damage import check
from sstext.storage.run_folder import (
    ALL_LABELS,
    AVERAGED,
    CONFIG,
    FINAL,
    FIT,
    LOG,
    PLAN,
    PSEUDO_LABELS,
    RESULTS,
    ROUNDS,
    SCORES,
    TO_LABEL,
    RunDirectory,
    chain_folder,
    stage_name,
)

T = TypeVar("T")
#: Runs of version 0.1 do not record what labeled the corpus: a probe did in these methods.
WITH_PROBE_IN_VERSION_0_1 = frozenset({"auto", "margin-history"})


@dataclass(frozen=True)
class Teaching:
    """The pseudo-labels of one student's training.

    Attributes:
        labels: their parquet file.
        scores: (N, C) the teacher's logits for the corpus, on disk.
        temperature: the temperature of these logits.
        student: a description of the student for the reader.
    """

    labels: Path
    scores: np.ndarray
    temperature: float
    student: str


@dataclass(frozen=True)
class RunFiles:
    """The folder of a run, finished or not.

    Attributes:
        results: the content of results.json. Without the file, the part that is known from the finished stages.
        finished: whether results.json exists.
        missing: sentences about missing files and the parts that the report leaves out.
    """

    path: Path
    results: dict[str, Any]
    finished: bool
    missing: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """C names."""
        return self.results["classes"]

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The records of the stages."""
        return self.results["rounds"]

    @property
    def chosen(self) -> int:
        """The index of the chosen model's stage. For an unfinished run, the last stage so far."""
        chosen = self.results.get("chosen")
        return chosen["round"] if chosen else self.rounds[-1]["index"]

    @property
    def judged(self) -> int:
        """The index of the stage whose held-out predictions stand for the model.

        This is the chosen stage. If the chains only make teachers, it is the one that taught the final model.
        """
        return (self.results.get("chosen") or {}).get("judged", self.chosen)

    @property
    def first(self) -> str:
        """The name of the first stage, which all others are compared with. Version 0.1 called it round 0."""
        return self.rounds[0].get("stage") or "baseline"

    @property
    def baseline(self) -> str:
        """The name of the model that is measured beside the chosen one on test rows. Old runs measured their first stage."""
        return self.results.get("baseline") or self.first

    @property
    def baseline_chosen(self) -> bool:
        """Whether the chosen model is the one that is measured beside it."""
        same = (self.rounds[self.chosen].get("stage") or self.first) == self.baseline
        return same if "baseline" in self.results else self.chosen == 0

    @property
    def cross_fitted(self) -> bool:
        """Whether the run has held-out predictions of its chains."""
        return bool(self.rounds[0].get("out_of_fold"))

    @property
    def chain(self) -> Path:
        """The folder of the chain that the report shows: the first chain, or the only one."""
        return self.path / chain_folder(1) if self.cross_fitted else self.path

    def say_missing(self, sentence: str) -> None:
        """Add a sentence about a part that the report leaves out, unless it is there already."""
        if sentence not in self.missing:
            self.missing.append(sentence)

    def read(self, path: Path, reader: Callable[[Path], T], left_out: str, *, expected: bool = True) -> T | None:
        """Read a file. If it is missing or damaged, add a sentence to `missing` and return None.

        Args:
            left_out: the part that the report leaves out without the file, as a main clause.
            expected: whether every run has the file. If not, its absence needs no sentence.
        """
        name = path.relative_to(self.path).as_posix()
        if not path.exists():
            if expected:
                self.say_missing(f"{name} is missing: {left_out}.")
            return None
        try:
            check(path, editable=True)
            return reader(path)
        except UNREADABLE:
            self.say_missing(f"{name} cannot be read: {left_out}.")
            return None

    @cached_property
    def options(self) -> dict[str, Any] | None:
        """The resolved options of the run."""
        return self.read(self.path / CONFIG, read_mapping, "the settings are left out")

    @cached_property
    def plan(self) -> dict[str, Any] | None:
        """The plan of the run. Version 0.1 wrote one for runs with a budget only, without stages."""
        return self.read(self.path / PLAN, read_mapping, "the plan is left out", expected=False)

    @cached_property
    def checkup(self) -> dict[str, Any] | None:
        """What the quick check of the data found. Runs of earlier versions have none."""
        left_out = "classes and findings of the data are left out"
        return self.read(RunDirectory(self.path).checkup, read_checkup, left_out, expected=False)

    @cached_property
    def to_label(self) -> list[TextToLabel]:
        """The texts that should be labeled next, without those that have a label by now."""
        left_out = "texts to label are left out"
        return self.read(self.path / TO_LABEL, read_texts_to_label, left_out, expected=False) or []

    @cached_property
    def knows_precision(self) -> bool:
        """Whether the chosen model has a precision curve, which `sstext predict --target-precision` needs."""
        left_out = "`sstext predict --target-precision` is left out"
        path = RunDirectory(self.path).model / "config.json"
        return bool(self.read(path, read_precision_curve, left_out, expected=False))

    def predictions(self, name: str, *, expected: bool) -> Predictions | None:
        """The predictions for one kind of labeled rows, see `Predictions`."""
        left_out = "calibration and examples of mistakes are left out"
        path = RunDirectory(self.path).predictions(name)
        return self.read(path, lambda file: read_predictions(file, self.classes), left_out, expected=expected)

    @cached_property
    def corpus(self) -> Corpus | None:
        """The unlabeled texts."""
        if not self.results.get("rows", {}).get("unlabeled", any(r["admitted"] for r in self.rounds)):
            return None
        return self.read(RunDirectory(self.path).corpus, read_corpus, "examples of unlabeled texts are left out")

    def log(self, folder: Path) -> list[dict[str, Any]]:
        """The training log of a stage, one entry per logged step. Empty if the file is missing."""
        found = self.read(folder / LOG, read_lines, "its losses are left out", expected=False)
        return found or []

    def trainings(self) -> list[tuple[str, Path]]:
        """The trainings that led to the chosen model: a title for the reader, and the folder of the training.

        With folds, these are the trainings with all labels, and those of the first chain for the other stages.
        """
        on_all_labels = sorted(file.parent for file in (self.path / ALL_LABELS).glob(f"*/{FIT}"))
        last = [folder for folder in on_all_labels if (folder / PSEUDO_LABELS).exists()]
        named, of_chain = [], ", chain 1" if self.cross_fitted else ""
        for record in self.rounds:
            if stage_name(record) == FINAL:
                continue
            name, folder = stage_name(record).capitalize(), self.folder(record)
            of_all = self.path / ALL_LABELS / folder.name
            if of_all in on_all_labels and of_all not in last:
                named.append((f"{name}, all labels", of_all))
            else:
                named.append((f"{name}{of_chain}", folder))
        return named + [("Final model, all labels", folder) for folder in last]

    def folder(self, record: dict[str, Any]) -> Path:
        """The folder of a stage of `chain`, or of the final model."""
        if stage_name(record) == FINAL:
            return RunDirectory(self.path / ALL_LABELS).stage(FINAL)
        return RunDirectory(self.chain).stage(stage_name(record))

    def scores(self, index: int) -> tuple[np.ndarray, float] | None:
        """Logits (N, C) for the corpus of a student of `chain`, on disk, and their temperature."""
        left_out = "predictions for the corpus are left out"
        found = self.read(self.folder(self.rounds[index]) / SCORES, self._read_scores, left_out, expected=False)
        return None if found is None else (found, self._temperature(index))

    def _temperature(self, index: int) -> float:
        """The temperature of the scores of a stage. Scores of head and probe together are calibrated already."""
        following = [record for record in self.rounds if record["index"] == index + 1]
        with_probe = bool(following) and self._labeled_by_probe(following[0], self.rounds[index])
        return 1.0 if with_probe else self.rounds[index]["temperature"]

    def _labeled_by_probe(self, record: dict[str, Any], before: dict[str, Any]) -> bool:
        if stage_name(record) == FINAL:  # `before` is the first teacher, which labels the corpus with a probe
            return True
        if "labeled_by" in record:
            return record["labeled_by"] == "head and probe"
        method = self.results.get("method", "").partition(" ")[0]
        return method in WITH_PROBE_IN_VERSION_0_1 and not before["admitted"] and bool(record["admitted"])

    def _read_scores(self, path: Path) -> np.ndarray:
        scores = np.load(path, mmap_mode="r", allow_pickle=False)
        if scores.ndim != 2 or scores.shape[1] != len(self.classes):
            raise ValueError(f"expected {len(self.classes)} columns, found {scores.shape}")
        return scores

    @cached_property
    def teaching(self) -> Teaching | None:
        """The pseudo-labels of the chosen model. If it has none, those of the latest stage that has some."""
        last = sorted((self.path / ALL_LABELS).glob(f"*/{PSEUDO_LABELS}"))
        averaged = self.path / ALL_LABELS / AVERAGED
        if last and averaged.exists():
            scores = self.read(averaged, self._read_scores, "pseudo-labels are left out")
            if scores is not None:
                return Teaching(last[-1], scores, 1.0, "the final model")
        of_chain = (r for r in self.rounds if r["admitted"] and stage_name(r) != FINAL)
        taught = sorted((r["index"] for r in of_chain), key=lambda i: (i != self.chosen, -i))
        for index in taught:
            labels, teacher = self.folder(self.rounds[index]) / PSEUDO_LABELS, self.scores(index - 1)
            if labels.exists() and teacher is not None:
                chain = " in chain 1" if self.cross_fitted else ""
                return Teaching(labels, *teacher, f"the student of the stage “{stage_name(self.rounds[index])}”{chain}")
        if taught:
            self.say_missing("Pseudo-labels and scores are missing: examples of selected texts are left out.")
        return None


def open_run_files(folder: str | Path) -> RunFiles:
    """Open the folder of a run for reading.

    Raises:
        UserError: the folder is not a run, or no stage of the run is finished.
    """
    directory = RunDirectory(folder)
    remedy = "give the --output folder of `sstext train`"
    if not directory.path.is_dir():
        raise UserError(f"report: expected the folder of a run, found none at {folder}; {remedy}")
    try:
        if directory.results.exists():
            results = directory.read_results()
            if not {"chosen", "classes", "rounds"} <= results.keys() or not results["rounds"]:
                raise UserError(f"report: {directory.results} was not written by a run; {remedy}")
            return RunFiles(directory.path, results, finished=True)
        rounds = directory.rounds()
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"report: {folder} holds a damaged {RESULTS} or {ROUNDS}: {error}; run it again") from None
    if not rounds:
        found = "a run without a finished round; the same `sstext train` command continues it"
        if not (directory.path / CONFIG).exists():
            found = f"no {RESULTS} and no {ROUNDS}; {_runs_inside(directory.path) or remedy}"
        raise UserError(f"report: expected a run in {folder}, found {found}")
    try:
        options = read_mapping(directory.path / CONFIG)
    except UNREADABLE:
        options = {}
    known = {name: options[name] for name in ("method", "seed") if name in options}
    return RunFiles(directory.path, {"classes": list(rounds[0]["per_class"]), "rounds": rounds} | known, finished=False)


def _runs_inside(folder: Path) -> str:
    """A question that names the runs in a folder, one or two levels deep (out/recipe/seed-0). Empty without runs."""
    files = [file for depth in ("*", "*/*") for file in sorted(folder.glob(f"{depth}/{CONFIG}"))]
    runs = [str(file.parent) for file in files if any((file.parent / name).exists() for name in (RESULTS, ROUNDS))]
    if not runs:
        return ""
    return f"did you mean {runs[0]}?" if len(runs) == 1 else f"did you mean one of {listed(runs)}?"
