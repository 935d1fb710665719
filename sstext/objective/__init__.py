"""The training objective: one file per axis, composed by `Objective`."""

from sstext.objective.objective import Losses, Objective
from sstext.objective.part import Part, Signals

__all__ = ["Losses", "Objective", "Part", "Signals"]
