"""What lines of the benchmark come to: a method over its cells, against supervised, the frozen regression and the best peer.

Cells are those of one table, in which every method is told one thing (`cells.as_told`).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cells import ALL_LABELS, FROZEN, SUPERVISED, Cell
from peers import PEERS

from sstext.evaluation.bootstrap import EQUAL

#: A cell does harm where its accuracy is further than this below what it is held against.
HARM = 0.01
RESAMPLES = 9_999

#: Where something is measured: set, labeled rows per class, seed.
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Summary:
    """What a method came to; None where nothing says.

    Attributes:
        accuracy: (set, n) → mean over the seeds.
        difference: mean of method − supervised over the places where both are known, and its 95 % interval (NaN if it is
            not known).
        harm: share of these places that are more than a point below supervised.
        harm_frozen: share of places that are more than a point below the frozen regression that is told the same.
        gap_closed: Σ(method − supervised) / Σ(all pool labels − supervised).
        kept: mean share of unlabeled rows that counted at the end.
        macro_f1: mean over the cells.
        log_loss: mean negative log-likelihood of the true class, nats.
        calibration: mean of the expected calibration error, less what a perfect model would show on as many rows.
        done, failed, planned: numbers of cells.
    """

    method: str
    accuracy: dict[tuple[str, int], float]
    difference: tuple[float, float, float] | None
    harm: float | None
    harm_frozen: float | None
    gap_closed: float | None
    kept: float | None
    macro_f1: float | None
    log_loss: float | None
    calibration: float | None
    seconds: float | None
    done: int
    failed: int
    planned: int


def summarize(method: str, cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> Summary:
    """One method over the planned cells.

    Args:
        cells: of all methods.
        results: key of a cell → its result.
    """
    of = {name: accuracies(name, cells, results) for name in (method, SUPERVISED, ALL_LABELS)}
    own = [cell for cell in cells if cell.method == method]
    done = [results[cell.key] for cell in own if "accuracy" in results.get(cell.key, {})]
    gains = gains_over(SUPERVISED, method, cells, results)
    kept = [share for share in map(_kept, done) if share is not None]
    mean = {
        name: _mean([row[name] for row in done if name in row])
        for name in ("macro_f1", "nll", "calibration_error_excess", "seconds")
    }
    return Summary(
        method=method,
        accuracy={place: statistics.mean(values) for place, values in by_set(of[method]).items()},
        difference=mean_with_interval(np.array(list(gains.values()))) if gains else None,
        harm=_share_of_harm(gains),
        harm_frozen=_share_of_harm(gains_over(FROZEN, method, cells, results)),
        gap_closed=_gap_closed(of[method], of[SUPERVISED], of[ALL_LABELS]),
        kept=_mean(kept),
        macro_f1=mean["macro_f1"],
        log_loss=mean["nll"],
        calibration=mean["calibration_error_excess"],
        seconds=mean["seconds"],
        done=len(done),
        failed=sum("error" in results.get(cell.key, {}) for cell in own),
        planned=len(own),
    )


def mean_with_interval(gains: np.ndarray, *, seed: int = 0) -> tuple[float, float, float]:
    """Mean of paired differences (K,) and its 95 % bootstrap interval over the K pairs.

    If all differences are equal, as that of a single pair is, nothing shows how much they vary. The ends are then NaN.

    >>> mean_with_interval(np.array([.01]))
    (0.01, nan, nan)
    """
    drawn = np.random.default_rng(seed).integers(len(gains), size=(RESAMPLES, len(gains)))
    low, high = np.quantile(gains[drawn].mean(1), [0.025, 0.975])
    if np.ptp(gains) < EQUAL:
        low = high = float("nan")
    return float(gains.mean()), float(low), float(high)


def gains_over(
    reference: str, method: str, cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]
) -> dict[Place, float]:
    """Place → accuracy of a method − that of the reference, where both are known; nothing for the reference itself."""
    low = accuracies(reference, cells, results) if method != reference else {}
    own = accuracies(method, cells, results)
    return {place: own[place] - low[place] for place in own if place in low}


def _share_of_harm(gains: Mapping[Place, float]) -> float | None:
    return float(np.mean(np.array(list(gains.values())) < -HARM - 1e-9)) if gains else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None


def accuracies(method: str, cells: Sequence[Cell], results: Mapping[str, dict[str, Any]]) -> dict[Place, float]:
    """Place → accuracy of a method, where it has been measured."""
    return {
        (cell.set, cell.n, cell.seed): results[cell.key]["accuracy"]
        for cell in cells
        if cell.method == method and "accuracy" in results.get(cell.key, {})
    }


def _gap_closed(own: Mapping[Place, float], low: Mapping[Place, float], high: Mapping[Place, float]) -> float | None:
    places = own.keys() & low.keys() & high.keys()
    gap = sum(high[place] - low[place] for place in places)
    return sum(own[place] - low[place] for place in places) / gap if gap > 0 else None


def _kept(row: Mapping[str, Any]) -> float | None:
    """Share of the unlabeled rows that counted: inside a step at the end, else in the last round."""
    if row["kept_share"] is not None or len(row["rounds"]) <= 1:
        return row["kept_share"]
    return row["rounds"][-1]["coverage"]


def over_best_peer(
    cells: Sequence[Cell], results: Mapping[str, dict[str, Any]], method: str = "auto"
) -> tuple[str, dict[Place, float]] | None:
    """The best peer, and what a method differs from it by, on the places that all have: the method, and its peers.

    A peer that lacks half of the method's places, or more, is left out; of the others the best one has the highest mean
    accuracy. None where no peer is left.
    """
    own = accuracies(method, cells, results)
    every = {name: accuracies(name, cells, results) for name in PEERS}
    peers = {name: found for name, found in every.items() if 2 * len(own.keys() & found.keys()) > len(own)}
    common = [place for place in own if all(place in found for found in peers.values())]
    if not peers or not common:
        return None
    best = max(peers, key=lambda name: statistics.mean(peers[name][place] for place in common))
    return best, {place: own[place] - peers[best][place] for place in common}


def by_set(values: Mapping[Place, float]) -> dict[tuple[str, int], list[float]]:
    """(Set, n) → values of its seeds."""
    found: dict[tuple[str, int], list[float]] = {}
    for (name, n, _), value in values.items():
        found.setdefault((name, n), []).append(value)
    return found


def by_name(values: Mapping[Place, float]) -> dict[str, list[float]]:
    """Set → values of all its cells."""
    found: dict[str, list[float]] = {}
    for (name, _, _), value in values.items():
        found.setdefault(name, []).append(value)
    return found
