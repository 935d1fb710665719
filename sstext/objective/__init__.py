"""What the student is asked to minimize: one file per axis, composed by `Objective`."""

from sstext.objective.methods import METHODS, build, fixmatch, pseudo_label, softmatch, supervised
from sstext.objective.objective import Losses, Objective
from sstext.objective.part import Part, Signals
from sstext.objective.ramps import linear_ramp

__all__ = [
    "METHODS", "Losses", "Objective", "Part", "Signals",
    "build", "fixmatch", "linear_ramp", "pseudo_label", "softmatch", "supervised",
]  # fmt: skip
