"""The configuration of a run: all options together, checked. Free of torch, so that `sstext --help` answers at once."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import yaml

from sstext.config.old_options import replacement
from sstext.config.option_groups import (
    EDITS,
    DataOptions,
    EncoderOptions,
    RunOptions,
    SelfTrainingOptions,
    SemiSupervisedOptions,
    TrainingOptions,
)
from sstext.config.options import checked, default_of, option, options
from sstext.errors import UserError, nearest


@dataclass
class RunConfig(RunOptions, TrainingOptions, SemiSupervisedOptions, SelfTrainingOptions, EncoderOptions, DataOptions):
    """Everything that `sstext train` can be told. A YAML key, a flag and a field have one name.

    Raises:
        UserError: a value of the wrong type or out of range, or an unknown or former option.
    """

    #: Fields that may differ when a run is continued: they change what is shown, not what is computed.
    UNRECORDED: ClassVar[tuple[str, ...]] = ("output", "report_to", "workers", "engine")

    method: str = option(
        "auto",
        "How to learn from unlabeled texts; `sstext methods` lists the methods. Default: auto. Use supervised to train "
        "on the labeled rows only.",
        common=True,
    )

    def __post_init__(self) -> None:
        for name, spec in options(RunConfig).items():
            setattr(self, name, checked(name, getattr(self, name), spec))
        self.edits, self.class_weight = checked_edits(self.edits), checked_class_weight(self.class_weight)
        self._check_encoders()
        for part in self.freeze:
            if part != "embeddings" and not part.isdecimal():
                raise UserError(f"freeze: expected `embeddings` or a number of layers, found {part!r}")
        if len(self.freeze) > 1 + ("embeddings" in self.freeze):
            raise UserError(f"freeze: expected one number of layers, found {self.freeze}")
        if self.keep is not None and (not self.keep or any(not 0 < share <= 1 for share in self.keep)):
            raise UserError(f"keep: expected shares above 0 and up to 1, one per round, found {self.keep}")
        if self.budget is not None:
            seconds_of(self.budget)
        if self.gold_share == 0 and self.rounds:
            raise UserError("gold_share: expected more than 0, so that every batch has labeled rows, found 0")

    def _check_encoders(self) -> None:
        """Refuse an encoder that is given twice, and a prefix of another encoder."""
        names, self.prefix = self.encoders, None if self.prefix == {} else self.prefix
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"encoder: {name!r} is given twice; give every encoder once")
        for name in self.prefix if isinstance(self.prefix, Mapping) else ():
            if name not in names:
                raise UserError(f"prefix: {name!r} is no encoder of this run; {nearest(name, names)}")

    @property
    def encoders(self) -> list[str]:
        """The encoders that the run may take."""
        given = self.encoder or []
        return [given] if isinstance(given, str) else given

    def with_encoder(self, name: str) -> "RunConfig":
        """The same run with one encoder, and with its prefix.

        >>> RunConfig(encoder=["a", "b"], prefix={"b": "query: "}).with_encoder("b").prefix
        'query: '
        """
        prefix = self.prefix.get(name) if isinstance(self.prefix, Mapping) else self.prefix
        return replace(self, encoder=name, prefix=prefix)

    @property
    def frozen_layers(self) -> int:
        """Number of the first layers that are not trained."""
        return max([0, *(int(part) for part in self.freeze if part.isdecimal())])

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The default of every option."""
        return {name: default_of(spec) for name, spec in options(cls).items()}

    def to_yaml(self) -> str:
        """The resolved run, enough to repeat it (without what only changes the display)."""
        kept = {name: value for name, value in asdict(self).items() if name not in self.UNRECORDED}
        return yaml.safe_dump(kept, sort_keys=True, allow_unicode=True)


def refuse_unknown(names: Mapping[str, Any], where: str = "") -> None:
    """Refuse names that are no options.

    Raises:
        UserError: names what has replaced a former option, or the options with the nearest names.
    """
    known = options(RunConfig)
    for name in names:
        if name not in known:
            now = replacement(str(name))
            if now is not None:
                raise UserError(f"{where}option {name!r} has been replaced; use {now}")
            raise UserError(f"{where}unknown option {name!r}; {nearest(str(name), known)}")


def _named_errors(generated: Any) -> Any:
    """The generated `__init__`, with an error that names the new option for a former one."""

    def initialize(self: RunConfig, **given: Any) -> None:
        refuse_unknown(given)
        generated(self, **given)

    return initialize


RunConfig.__init__ = _named_errors(RunConfig.__init__)  # type: ignore[method-assign]


def checked_edits(given: Mapping[str, Any]) -> dict[str, float]:
    """Shares of all token edits; those that are not given have their default.

    Raises:
        UserError: no such edit, or no share between 0 and 1.

    >>> checked_edits({"drop": .1})
    {'mask': 0.15, 'drop': 0.1, 'swap': 0.0, 'cutoff': 0.0}
    """
    for name, share in given.items():
        if name not in EDITS:
            raise UserError(f"edits: no edit {name!r}; {nearest(str(name), EDITS)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise UserError(f"edits: expected a share between 0 and 1 for {name}, found {share!r}")
    return {name: float(given.get(name, default)) for name, default in EDITS.items()}


def checked_class_weight(given: Any) -> Any:
    """Return weights of classes as None, `balanced`, or a mapping of class → weight. A mapping may be given as JSON.

    Raises:
        UserError: it is something else, or a weight is no number of at least 0.

    >>> checked_class_weight('{"refund": 2}')
    {'refund': 2.0}
    """
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except ValueError:
            raise UserError(f"class_weight: expected JSON of a mapping, found {given!r}") from None
    if given is None or given in ("balanced", "none"):
        return "balanced" if given == "balanced" else None
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"class_weight: expected balanced, or a weight for each class such as refund=2, found {given!r}"
        )
    for name, weight in given.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise UserError(f"class_weight: expected a number of at least 0 for {name}, found {weight!r}")
    return {name: float(weight) for name, weight in given.items()}


def seconds_of(budget: str) -> float:
    """A time as people write it, in seconds.

    Raises:
        UserError: it is none.

    >>> seconds_of("90s"), seconds_of("10m"), seconds_of("1.5h"), seconds_of("1h30m")
    (90.0, 600.0, 5400.0, 5400.0)
    """
    parts = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", budget.strip())
    try:
        found = [float(part) if part else 0.0 for part in parts.groups()] if parts else []
    except ValueError:
        found = []
    total = sum(number * unit for number, unit in zip(found, (3600, 60, 1), strict=False))
    if not total > 0:
        raise UserError(f"budget: expected a time such as 10m, 90s or 1h30m, found {budget!r}")
    return total
