"""The folder of a run. Every file in it is written whole or not at all."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sstext.errors import UserError, listed
from sstext.storage.damage import damaged, read_json, reading
from sstext.storage.disk import writing
from sstext.storage.manifest import MANIFEST, Manifest
from sstext.storage.ownership import LOCK, OWNER, refuse_file
from sstext.storage.whole import PRIVATE_FOLDER, remove, remove_joined_parts, remove_partials, write_whole

CONFIG, DATA, PLAN, ROUNDS = "config.yaml", "data.json", "plan.json", "rounds.jsonl"
#: Folder of the corpus and the tokens. It is private, because it contains texts.
DATA_FOLDER = "data"
ENCODERS = "encoders.json"
POOLING = "pooling.json"
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
#: Why training ends after the last stage of a plan. It is the usual end, and nobody needs to be told.
ALL_DONE = "all rounds are done"
#: Texts that should be labeled next. It is private.
TO_LABEL = "to_label.csv"
#: In the folder of the data: vectors of labeled texts and class texts by the pretrained encoder. It is private, because texts
#: can be guessed from them.
EMBEDDINGS = "embeddings"
#: In the folder of the data: what the quick check found. It is private, because it contains texts.
CHECKUP = "check.json"
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
    data.json        fingerprints of the input data, and what became of its rows
    data/            the corpus and its tokens as Arrow files, embeddings, and what a quick check found; private, never pushed
    encoders.json    the encoder that was taken of several, and why; private, never pushed
    pooling.json     what the heads read, and why; private, never pushed
    plan.json        the stages, and what a budget left out
    rounds.jsonl     one line per finished stage
    baseline/ start/ round_1/ …   model, scores and pseudo-labels of a stage; private, never pushed
    regression/      a frozen regression, which is measured on test rows; private, never pushed
    predictions/     evaluated rows and their predictions; private, never pushed
    to_label.csv     texts that should be labeled next; private, never pushed
    times.json       seconds by phase
    model/           the chosen model
    results.json     numbers of the whole run
    report.html report_figures/   the report
    manifest.jsonl   length and hash of every file that is read back
    .lock .lock.json the process that works in the folder
    ```

    With folds, the stages are not in the folder itself, but in these folders, which are private too:

    ```
    chain_1/ …       the stages of a cross-fitted chain
    all_labels/      the stages that are trained on all labels, and the final model
    ```
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.data, self.model, self.results = self.path / DATA_FOLDER, self.path / MODEL, self.path / RESULTS
        self.corpus = self.data / "unlabeled.arrow"  # and its counts in unlabeled.json
        self.checkup = self.data / CHECKUP
        self.embeddings = self.data / EMBEDDINGS

    def claim(
        self,
        config: str,
        fingerprints: Mapping[str, str],
        defaults: Mapping[str, Any] | None = None,
        replaceable: Sequence[str] = (),
    ) -> bool:
        """Claim the folder for a new or resumed run with these options and data.

        Args:
            config: the resolved options, as YAML.
            fingerprints: fingerprints of the input files, by option.
            defaults: default values of all options. An option that is missing in the folder's record, because an
                earlier version did not have it, is accepted if it has its default value now.
            replaceable: sources that may differ from the folder's. Nothing that is trained depends on them.

        Returns:
            Whether such a source differs. The folder is then unchanged until `replace_sources`.

        Raises:
            UserError: if the folder holds another run, or files that do not belong to a run.
        """
        replaced = self.check(config, fingerprints, defaults, replaceable)
        if not (self.path / CONFIG).exists():
            self._write_claim(config, fingerprints)
        manifest = Manifest(self.path)
        manifest.create()  # earlier versions wrote none
        # What somebody has deleted, because it was damaged: predictions are computed again if they are needed, and times and
        # losses are missed by nobody.
        spare = [self.path / name for name in manifest.entries() if name.endswith((".npy", TIMES, LOG))]
        manifest.gone(file for file in spare if not file.exists())
        remove_partials(list(self.path.rglob(".*.partial")))  # listed first, because folders among them go
        remove_joined_parts(list(self.path.rglob("*.npy")))
        return replaced

    def _write_claim(self, config: str, fingerprints: Mapping[str, str]) -> None:
        with writing(f"output: {self.path}"):
            self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        Manifest(self.path).create()
        write_whole(self.path / DATA, json.dumps({"fingerprints": dict(fingerprints)}, indent=2))
        write_whole(self.path / CONFIG, config)  # last, because this file claims the folder

    def replace_sources(self, config: str, fingerprints: Mapping[str, str]) -> None:
        """Record replaced sources (see `claim`), and remove what was measured on the old ones. All models stay.

        The run is then unfinished, and is finished by choosing and measuring its model again.

        Raises:
            UserError: the run was finished, and models of its stages have been deleted since. Nothing has changed then.
        """
        if self.results.exists() and not self._keeps_models():
            raise UserError(
                f"output: {self.path} cannot be measured on other test rows, because models of its stages have been deleted; "
                "measure its model with `sstext evaluate`, or choose another --output"
            )
        for file in (self.results, self.path / REPORT, self.predictions("test")):  # without results, a run goes on
            remove(file)
        remove(self.path / FIGURES)
        self._write_claim(config, fingerprints)

    def _keeps_models(self) -> bool:
        """Whether the models of all finished stages are in the folder."""
        records = self.rounds()
        chains = [self, *(RunDirectory(path) for path in (self.path / ALL_LABELS, *self.path.glob("chain_*")))]
        stages = [stage_name(record) for record in records]
        return bool(records) and all(
            any((chain.stage(stage) / FIT).exists() and (chain.stage(stage) / MODEL).is_dir() for chain in chains)
            for stage in stages
        )

    def holds_run(self) -> bool:
        """Whether the folder holds a run, finished or not. A model's folder may have a file of the same name."""
        return os.path.isfile(self.path / CONFIG) and not os.path.isfile(self.path / "config.json")

    def check(
        self,
        config: str,
        fingerprints: Mapping[str, str],
        defaults: Mapping[str, Any] | None = None,
        replaceable: Sequence[str] = (),
    ) -> bool:
        """Check whether `claim` would succeed, and return what it would. Nothing is written.

        Raises:
            UserError: see `claim`.
        """
        refuse_file(self.path)
        if (self.path / CONFIG).exists():
            return self._check_same(config, fingerprints, defaults or {}, replaceable)
        left_by_a_kill = {DATA, MANIFEST, LOCK, OWNER}
        if self.path.is_dir() and any(
            file.name not in left_by_a_kill and not file.name.endswith(".partial") for file in self.path.iterdir()
        ):
            raise UserError(f"output: {self.path} holds files that do not belong to a run; choose another --output")
        return False

    def _check_same(
        self, config: str, fingerprints: Mapping[str, str], defaults: Mapping[str, Any], replaceable: Sequence[str]
    ) -> bool:
        remedy = "choose another --output, or delete the folder"
        read = self.read_config()
        before, now = (
            dict(defaults) | (one if isinstance(one, dict) else {}) for one in (read, yaml.safe_load(config))
        )
        recorded = read.keys() if isinstance(read, dict) else set()
        former = sorted(recorded - defaults.keys()) if recorded & defaults.keys() else []
        if former:
            raise UserError(
                f"output: {self.path} holds a run of an earlier version, with options that have been replaced "
                f"({listed(former, limit=3)}); it can be reported on and predicted with, but not continued; {remedy}"
            )
        changed = [name for name in sorted({*before, *now}) if before.get(name, _ABSENT) != now.get(name, _ABSENT)]
        if any(name not in replaceable for name in changed):
            lines = [f"  {name}: {_shown(before, name)} → {_shown(now, name)}" for name in changed[:SHOWN_CHANGES]]
            more = f"\n  and {len(changed) - SHOWN_CHANGES} more" if len(changed) > SHOWN_CHANGES else ""
            raise UserError(
                f"output: {self.path} belongs to another run, with other options; {remedy} (in the folder → now):\n"
                + "\n".join(lines) + more
            )  # fmt: skip
        there = self.read_data().get("fingerprints", {})
        other = sorted(name for name in {*there, *fingerprints} if there.get(name) != fingerprints.get(name))
        if any(name not in replaceable for name in other):
            raise UserError(
                f"output: {self.path} belongs to a run on other data ({', '.join(other)} changed); {remedy}"
            )
        return bool(changed or other)

    def read_config(self) -> Any:
        """The options of the run. A file of the same name that a run did not write may hold anything."""
        with reading(self.path / CONFIG):
            return yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))

    def read_options(self) -> dict[str, Any]:
        """The options of the run, by name.

        Raises:
            DamagedFileError: the file holds none.
        """
        found = self.read_config()
        if not isinstance(found, dict):
            raise damaged(self.path / CONFIG, "expected options, found none")
        return found

    def write_rows(self, rows: Mapping[str, Mapping[str, int]]) -> None:
        """Keep in `data.json` what became of every row of every source: kept, or why not."""
        before = self.read_data()
        if before.get("rows") != rows:
            write_whole(self.path / DATA, json.dumps({**before, "rows": rows}, indent=2, ensure_ascii=False))

    def read_data(self) -> dict[str, Any]:
        """The fingerprints of the input, by option. Empty before a run has claimed the folder."""
        return read_json(self.path / DATA) or {}

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
        with reading(file):
            return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def append_round(self, record: Mapping[str, Any]) -> None:
        """Add the record of a finished stage."""
        lines = [json.dumps(line, ensure_ascii=False) for line in [*self.rounds(), record]]
        write_whole(self.path / ROUNDS, "\n".join(lines) + "\n")

    def read_encoders(self) -> dict[str, Any] | None:
        """The comparison of encoders, or None if none has been written: most runs have one encoder."""
        return read_json(self.path / ENCODERS)

    def write_encoders(self, comparison: Mapping[str, Any]) -> None:
        """Keep the comparison of encoders. A continued run takes the same one."""
        write_whole(self.path / ENCODERS, json.dumps(comparison, indent=2, ensure_ascii=False))

    def read_pooling(self) -> dict[str, Any] | None:
        """What heads read, and why (`sstext.pseudolabels.reading_choice`), or None if nothing has been compared."""
        return read_json(self.path / POOLING)

    def write_pooling(self, choice: Mapping[str, Any]) -> None:
        """Keep what heads read. A continued run reads the same."""
        write_whole(self.path / POOLING, json.dumps(choice, indent=2))

    def read_plan(self) -> dict[str, Any] | None:
        """The plan of the run, or None if none has been written yet."""
        return read_json(self.path / PLAN)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Keep the plan of the run. A continued run follows it, however fast the machine is by then."""
        write_whole(self.path / PLAN, json.dumps(plan, indent=2, ensure_ascii=False))

    def times(self) -> dict[str, Any]:
        """The "seconds" of all calls of a run together, and its "phases" in order, each with name and seconds."""
        return read_json(self.path / TIMES) or {"seconds": 0.0, "phases": []}

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
        with reading(self.results):
            return json.loads(self.results.read_text(encoding="utf-8"))

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write the numbers of the whole run."""
        write_whole(self.results, json.dumps(results, indent=2, ensure_ascii=False))


#: An option that a folder does not have, or that a run does not have any more.
_ABSENT = object()
#: Options in the message about another run.
SHOWN_CHANGES = 12


def _shown(options: Mapping[str, Any], name: str) -> str:
    """The value of an option in a message.

    >>> _shown({"test": None, "keep": [0.3]}, "test"), _shown({"test": None, "keep": [0.3]}, "keep"), _shown({}, "keep")
    ('none', '[0.3]', 'not there')
    """
    value = options.get(name, _ABSENT)
    if value is None:
        return "none"
    return "not there" if value is _ABSENT else str(value)
