"""The folder of a run. Every file in it is written whole or not at all."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sstext.errors import UserError, listed
from sstext.storage.whole import write_whole

CONFIG, DATA, PLAN, ROUNDS = "config.yaml", "data.json", "plan.json", "rounds.jsonl"
ENCODERS = "encoders.json"
TIMES, RESULTS = "times.json", "results.json"
REPORT, FIGURES = "report.html", "report_figures"
#: Folder of evaluated rows and their predictions. It is private, because it contains texts.
PREDICTIONS = "predictions"
#: Folder of a model: the chosen one in the folder of the run, and the student of a stage in the folder of the stage.
MODEL = "model"
#: With folds: the folder of the chain with all labels, beside those of the cross-fitted chains.
ALL_LABELS = "all_labels"
#: Name of the stage of the final model, which is in the folder of the chain with all labels.
FINAL = "final"
#: Name of the stage that a run without labels begins with.
ZERO_SHOT = "zero-shot"
#: Texts that should be labeled first, after a run without labels. It is private.
TO_LABEL = "to_label.csv"
#: In the folder of a stage: its pseudo-labels; the result, the log and the checkpoints of its training.
PSEUDO_LABELS, FIT, LOG, CHECKPOINTS = "pseudo_labels.parquet", "fit.json", "log.jsonl", "checkpoints"
#: In the folder of a stage: predictions of its student for the corpus, for a sample of it, and in passes with dropout.
SCORES, SAMPLE_SCORES, PASSES = "scores.npy", "sample.npy", "passes.npy"
#: In the folder of a stage: predictions of its student for held-out rows, without and with a probe, and for development rows.
HELD_OUT_SCORES, HELD_OUT_SCORES_WITH_PROBE, DEV_SCORES = "held_out.npy", "held_out_probe.npy", "dev.npy"
#: In the folder of the chain with all labels: the averaged predictions of the chains for the corpus.
AVERAGED = "averaged.npy"


def stage_name(record: Mapping[str, Any]) -> str:
    """The name of a stage in its record. Version 0.1 called every training a round.

    >>> stage_name({"index": 1, "stage": "start"}), stage_name({"index": 1})
    ('start', 'round 1')
    """
    return record.get("stage") or f"round {record['index']}"


def chain_folder(number: int) -> str:
    """The folder of a cross-fitted chain, numbered from 1."""
    return f"chain_{number}"


class RunDirectory:
    """The folder of one run.

    ```
    config.yaml      the resolved options; `sstext train config.yaml --output elsewhere` repeats the run
    data.json        fingerprints of the input data
    data/            the corpus and its tokens as Arrow files; private, never pushed
    encoders.json    the encoder that was taken of several, and why; private, never pushed
    plan.json        the stages, and what a budget left out
    rounds.jsonl     one line per finished stage
    baseline/ start/ round_1/ …   model, scores and pseudo-labels of a stage; private, never pushed
    predictions/     evaluated rows and their predictions; private, never pushed
    to_label.csv     texts that should be labeled first, after a run without labels; private, never pushed
    times.json       seconds by phase
    model/           the chosen model
    results.json     numbers of the whole run
    report.html report_figures/   the report
    ```

    With folds, the stages are not in the folder itself, but in these folders, which are private too:

    ```
    chain_1/ …       the stages of a cross-fitted chain
    all_labels/      the stages that are trained on all labels, and the final model
    ```
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.data, self.model, self.results = self.path / "data", self.path / MODEL, self.path / RESULTS
        self.corpus = self.data / "unlabeled.arrow"  # and its counts in unlabeled.json

    def claim(self, config: str, fingerprints: Mapping[str, str], defaults: Mapping[str, Any] | None = None) -> None:
        """Claim the folder for a new or resumed run with these options and data.

        Args:
            config: the resolved options, as YAML.
            fingerprints: fingerprints of the input files, by option.
            defaults: default values of all options. An option that is missing in the folder's record, because an
                earlier version did not have it, is accepted if it has its default value now.

        Raises:
            UserError: if the folder holds another run, or files that do not belong to a run.
        """
        self.check(config, fingerprints, defaults)
        if not (self.path / CONFIG).exists():
            write_whole(self.path / DATA, json.dumps({"fingerprints": dict(fingerprints)}, indent=2))
            write_whole(self.path / CONFIG, config)  # last, because this file claims the folder

    def check(self, config: str, fingerprints: Mapping[str, str], defaults: Mapping[str, Any] | None = None) -> None:
        """Check whether `claim` would succeed. Nothing is written.

        Raises:
            UserError: see `claim`.
        """
        for place in (self.path, *self.path.parents):
            if place.is_file():
                raise UserError(f"output: expected a folder, found the file {place}; choose another --output")
        if (self.path / CONFIG).exists():
            self._check_same(config, fingerprints, defaults or {})
            return
        left_by_a_kill = {DATA, f"{DATA}.tmp", f"{CONFIG}.tmp"}
        if self.path.is_dir() and any(file.name not in left_by_a_kill for file in self.path.iterdir()):
            raise UserError(f"output: {self.path} holds files that do not belong to a run; choose another --output")

    def _check_same(self, config: str, fingerprints: Mapping[str, str], defaults: Mapping[str, Any]) -> None:
        remedy = "choose another --output, or delete the folder"
        before = (self.path / CONFIG).read_text(encoding="utf-8")
        now = _without_newer_defaults(config, before, defaults)
        changed = [
            line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line.startswith(("- ", "+ "))
        ]
        recorded = {line.partition(":")[0] for line in before.splitlines() if line[:1].isalpha() and ":" in line}
        former = sorted(recorded - defaults.keys()) if recorded & defaults.keys() else []
        if former:
            raise UserError(
                f"output: {self.path} holds a run of an earlier version, with options that have been replaced "
                f"({listed(former, limit=3)}); it can be reported on and predicted with, but not continued; {remedy}"
            )
        if changed:
            raise UserError(
                f"output: {self.path} belongs to another run, with other options (- in the folder, + now): "
                f"{'; '.join(changed[:8])}; {remedy}"
            )
        there = self.read_data().get("fingerprints", {})
        other = sorted(name for name in {*there, *fingerprints} if there.get(name) != fingerprints.get(name))
        if other:
            raise UserError(
                f"output: {self.path} belongs to a run on other data ({', '.join(other)} changed); {remedy}"
            )

    def read_data(self) -> dict[str, Any]:
        """The fingerprints of the input, by option."""
        return json.loads((self.path / DATA).read_text(encoding="utf-8"))

    def stage(self, name: str) -> Path:
        """Folder of a stage.

        >>> RunDirectory("out").stage("round 1").name
        'round_1'
        """
        return self.path / name.replace(" ", "_")

    def predictions(self, rows: str) -> Path:
        """File of the predictions for test, development or held-out rows: `test`, `dev` or `out_of_fold`."""
        return self.path / PREDICTIONS / f"{rows}.parquet"

    def rounds(self) -> list[dict[str, Any]]:
        """The records of the finished stages."""
        file = self.path / ROUNDS
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def append_round(self, record: Mapping[str, Any]) -> None:
        """Add the record of a finished stage."""
        lines = [json.dumps(line, ensure_ascii=False) for line in [*self.rounds(), record]]
        write_whole(self.path / ROUNDS, "\n".join(lines) + "\n")

    def read_encoders(self) -> dict[str, Any] | None:
        """The comparison of encoders, or None if none has been written: most runs have one encoder."""
        file = self.path / ENCODERS
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def write_encoders(self, comparison: Mapping[str, Any]) -> None:
        """Keep the comparison of encoders. A continued run takes the same one."""
        write_whole(self.path / ENCODERS, json.dumps(comparison, indent=2, ensure_ascii=False))

    def read_plan(self) -> dict[str, Any] | None:
        """The plan of the run, or None if none has been written yet."""
        file = self.path / PLAN
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep the plan of the run. A continued run follows it, however fast the machine is by then."""
        write_whole(self.path / PLAN, json.dumps(plan, indent=2, ensure_ascii=False))

    def times(self) -> dict[str, Any]:
        """The "seconds" of all calls of a run together, and its "phases" in order, each with name and seconds."""
        file = self.path / TIMES
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"seconds": 0.0, "phases": []}

    def add_times(self, phases: Mapping[str, float], seconds: float) -> None:
        """Add the time of a call. The time of each phase is added to the phase of the same name, if there is one."""
        before = self.times()
        total = {phase["name"]: phase["seconds"] for phase in before["phases"]}
        for name, more in phases.items():
            total[name] = total.get(name, 0.0) + more
        listed = [{"name": name, "seconds": round(spent, 3)} for name, spent in total.items()]
        times = {"seconds": round(before["seconds"] + seconds, 3), "phases": listed}
        write_whole(self.path / TIMES, json.dumps(times, ensure_ascii=False))

    def read_results(self) -> dict[str, Any]:
        """The numbers of a finished run."""
        return json.loads(self.results.read_text(encoding="utf-8"))

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write the numbers of the whole run."""
        write_whole(self.results, json.dumps(results, indent=2, ensure_ascii=False))


def _without_newer_defaults(config: str, before: str, defaults: Mapping[str, Any]) -> str:
    """The options of a run, without new options (missing in the record `before`) that have their default value."""
    recorded = {line.partition(":")[0] for line in before.splitlines()}
    newer = {name: value for name, value in defaults.items() if name not in recorded}
    used = {name: value for name, value in yaml.safe_load(config).items() if name not in newer or value != newer[name]}
    return yaml.safe_dump(used, sort_keys=True, allow_unicode=True)
