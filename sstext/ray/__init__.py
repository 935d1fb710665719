"""Ray as an engine: a callable that labels batches, and files that are labeled by a pool of actors.

Importing this package imports neither ray nor torch. `pip install 'sstext[ray]'` installs ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sstext.ray.callable import Classifier
    from sstext.ray.cluster import Pool, nodes_of, pool_for
    from sstext.ray.predicting import predict_shards

_HOMES = {
    "Classifier": "sstext.ray.callable",
    "Pool": "sstext.ray.cluster",
    "nodes_of": "sstext.ray.cluster",
    "pool_for": "sstext.ray.cluster",
    "predict_shards": "sstext.ray.predicting",
}

__all__ = ["Classifier", "Pool", "nodes_of", "pool_for", "predict_shards"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sstext.ray' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
