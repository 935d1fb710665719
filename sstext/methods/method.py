"""What a method plans: a row of stages, each of which is one training."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sstext.modeling.reading import MEAN
from sstext.objective.objective import Objective
from sstext.pseudolabels.admission import Admission
from sstext.storage.run_folder import ZERO_SHOT

#: How the student of a stage labels the corpus for a later stage.
HEAD, HEAD_AND_PROBE, DROPOUT_PASSES = "head", "head and probe", "dropout passes"


#: Name of the first round. The final model is trained as its student is.
FIRST_ROUND = "round 1"


@dataclass(frozen=True)
class Schedule:
    """How long a stage trains, with which batches and learning rate.

    steps = passes · rows / (share · batch_size), at least `least` and at most `most`.

    Attributes:
        passes: number of passes over the labeled rows, or over the pseudo-labeled rows if the stage has any.
        least, most: limits of the number of optimizer steps.
        batch_size: labeled and pseudo-labeled rows per step, over all devices.
        learning_rate: peak learning rate of the encoder.
        share: share of these rows in a batch.
        exactly: optimizer steps that the user asks for, instead of passes.
        at_most: optimizer steps that a budget allows.
        of_rounds: whether the options of rounds (`round_steps`, …) apply to it, instead of those of the first training.

    >>> Schedule(passes=20, least=60, most=500).steps(64)
    80
    """

    passes: float
    least: int
    most: int
    batch_size: int = 16
    learning_rate: float = 2e-4
    share: float = 1.0
    exactly: int | None = None
    at_most: int | None = None
    of_rounds: bool = False

    @property
    def rows_per_step(self) -> float:
        """Number of rows in a step that count towards the passes."""
        return max(1.0, self.share * self.batch_size)

    def steps(self, rows: int) -> int:
        """Number of optimizer steps of a training on `rows` rows."""
        wanted = self.exactly or min(self.most, max(self.least, int(self.passes * rows / self.rows_per_step)))
        return wanted if self.at_most is None else min(self.at_most, wanted)


@dataclass(frozen=True)
class Stage:
    """One training of every chain. It has a folder and a line in the record.

    Attributes:
        name: "baseline", "start", "round 1", …, "final".
        objective: makes what the student minimizes. It is called for every training, because the parts have state.
        schedule: how long it trains.
        learns_from: the stage whose student labels the corpus for it, or None if it sees no pseudo-labels.
        selection: which of these pseudo-labels are used, and how much they count.
        keep: share of the corpus that may be selected, in (0, 1].
        labels_with: how its own student labels the corpus for a later stage, or None if it does not.
        starts_from: the stage whose student is trained further, or None to start from the pretrained encoder.
        noise: whether labeled and pseudo-labeled rows get token edits.
        chooses_reading: whether the labels choose what the head reads, the mean of the tokens or the first token. Otherwise it
            reads what the head of the encoder reads. `--pooling` can overrule both.
        regression_head: whether the head begins as a regression on the embeddings of the labeled rows. Without steps it also
            ends as one, and the encoder stays as it was pretrained.
        reads_class_texts: whether the names or descriptions of the classes are labeled rows in it, if they have shown to help.
        position: position in the plan, from 0. The seed of the training depends on it.
    """

    name: str
    objective: Callable[[], Objective]
    schedule: Schedule
    learns_from: str | None = None
    selection: Admission | None = None
    keep: float = 1.0
    labels_with: str | None = None
    starts_from: str | None = None
    noise: bool = True
    chooses_reading: bool = False
    regression_head: bool = False
    reads_class_texts: bool = False
    position: int = 0

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it was pretrained."""
        return not self.schedule.most

    def reading(self, pooling: str, chosen: str | None = None) -> str | None:
        """What its head reads, mean or first token, or None for what the head of the encoder reads.

        Args:
            pooling: the option.
            chosen: what held-out labels prefer. None: nothing was compared, so that it is the mean.
        """
        if pooling != "auto":
            return None if pooling == "native" else pooling
        return (chosen or MEAN) if self.chooses_reading else None

    @property
    def reads_corpus(self) -> bool:
        """Whether its student learns from unlabeled text inside its steps."""
        return not self.objective().supervised

    @property
    def with_probe(self) -> bool:
        """Whether a probe labels the corpus together with the head of its student."""
        return self.labels_with == HEAD_AND_PROBE


@dataclass(frozen=True)
class Belief:
    """The gain that is expected before anything is seen, in nats of log-loss per row.

    Attributes:
        over_baseline: mean gain over the baseline, μ.
        over_round: mean gain of one more round over the one before.
        spread: standard deviation of the gain over the baseline between data sets, τ. A stage is refused if its observed
            gain, with standard error s, is below −s² μ/τ²: with a larger spread, the held-out rows count more.
    """

    over_baseline: float
    over_round: float
    spread: float = 0.2


#: What `auto` has brought. Over a frozen regression, its start gained .59, .30, .15 and .02 nats on four validation sets: mean
#: .27, standard deviation .25, standard error of the mean .12. Four sets are few, so that the mean is taken one standard error
#: below. The gain over plain fine-tuning was .15, too (recipes/benchmark/LOG.md).
PROVEN = Belief(over_baseline=0.15, over_round=0.05, spread=0.25)
#: The belief for any other composition. Some gain and some do harm; no gain in log-loss has been measured for them as a whole.
UNPROVEN = Belief(over_baseline=0.0, over_round=0.0)


@dataclass(frozen=True)
class Method:
    """A composition of stages, as an `Objective` is a composition of parts.

    Attributes:
        first: the stages that see no pseudo-labels. All others are compared with the first of them.
        round: the stage that is repeated, each time with the pseudo-labels of the stage before it. None without rounds.
        rounds: number of rounds if the user gives none.
        keep: share of the corpus that each round may select. Further rounds use the last value.
        folds: number of chains if the user gives none. 0 means one chain with all labels.
        expected_gain: gain of its rounds that is expected before anything is measured.
        goes_on: whether a round trains the student of the stage before further. Otherwise it starts from the encoder.
        stop_agreement: stop if at least this share of the corpus keeps its predicted class (above 1: never).
        teaches_once: whether, with folds and one round, only the teachers are cross-fitted: one student learns from what they
            say together. Else the chains also go through the rounds.
        plain: plain fine-tuning, if it is not the first stage. It takes the place of a frozen stage where the head of the
            encoder cannot be a regression, and is measured on test rows.
        regression: a frozen regression, if it is not the first stage. It takes seconds, and is compared with the model, because
            fine-tuning on few labels can end below it. None: the head of the encoder cannot be one.
        follows_shares: whether pseudo-labels follow the class shares of the corpus (`--prior`), and quotas follow `--keep`.
    """

    first: tuple[Stage, ...]
    round: Stage | None = None
    rounds: int = 3
    keep: tuple[float, ...] = (0.3, 0.5, 0.7)
    folds: int = 0
    expected_gain: Belief = UNPROVEN
    goes_on: bool = True
    stop_agreement: float = 0.999
    follows_shares: bool = False
    teaches_once: bool = False
    plain: Stage | None = None
    regression: Stage | None = None

    def without_frozen(self) -> "Method":
        """The same method for an encoder whose head cannot be a regression: plain fine-tuning takes the place of one."""
        if self.plain is None:
            return replace(self, regression=None)
        first = [replace(stage, regression_head=False) for stage in self.first if not stage.frozen]
        if first[0].name != self.plain.name:  # it may be a stage already
            first.insert(0, self.plain)
        return replace(self, first=tuple(first), plain=None)

    def without_labels(self) -> "Method | None":
        """The same method for a run that has descriptions of the classes, but no labels. None if it cannot do without labels.

        The frozen stage that reads descriptions labels the corpus first. All stages that train on labels are left out, and no
        gain is expected, because nothing can be held out.
        """
        first = [replace(stage, name=ZERO_SHOT) for stage in self.first if stage.frozen and stage.reads_class_texts]
        if not first or self.round is None:
            return None
        return replace(
            self, first=(first[0],), folds=0, expected_gain=UNPROVEN, teaches_once=False, plain=None, regression=None
        )

    @property
    def between_rounds(self) -> bool:
        """Whether the method acts only between rounds. Its trainings are then plain fine-tuning."""
        return self.round is not None and all(stage.objective().plain for stage in (*self.first, self.round))

    @property
    def teacher(self) -> Stage:
        """The stage that labels the corpus first."""
        return self.first[-1]

    @property
    def selection(self) -> Admission | None:
        """How pseudo-labels are selected, or None if there are none."""
        return self.round.selection if self.round is not None else None

    def share_of_round(self, number: int) -> float:
        """Share of the corpus that round `number` (from 1) may select."""
        return self.keep[min(number - 1, len(self.keep) - 1)]

    def stages(self, rounds: int) -> tuple[Stage, ...]:
        """The stages with this number of rounds, in order."""
        made = list(self.first)
        for number in range(1, rounds + 1):
            if self.round is None:
                break
            before = made[-1].name
            made.append(
                replace(
                    self.round, name=f"round {number}", learns_from=before, keep=self.share_of_round(number),
                    starts_from=before if self.goes_on else None,
                )
            )  # fmt: skip
        return tuple(replace(stage, position=position) for position, stage in enumerate(made))
