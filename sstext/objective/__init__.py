"""What the student is asked to minimize: one file per axis, composed by `Objective`; methods by name in `methods`."""

from sstext.objective.methods import METHODS, build
from sstext.objective.objective import Losses, Objective
from sstext.objective.part import Part, Signals

__all__ = ["METHODS", "Losses", "Objective", "Part", "Signals", "build"]
