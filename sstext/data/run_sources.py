"""The sources of a run: what the user gave for each option that names data, in files or in Python."""

from collections.abc import Mapping
from typing import Any

from sstext.config.run_config import RunConfig
from sstext.config.spelling import spelled
from sstext.data.descriptions import descriptions_file
from sstext.data.fingerprints import fingerprint
from sstext.data.sources import as_source
from sstext.errors import MissingOptionsError, UserError

#: Options that name data, in reading order → the split that is taken if the source has several.
SPLITS = {"labeled": "train", "unlabeled": "train", "dev": "validation", "test": "test", "audit": "train"}


def given_data(**given: Any) -> dict[str, Any]:
    """Data passed in Python, in a form that can be read again and again. An object that is passed twice is read once.

    Raises:
        UserError: an object that holds no rows.
    """
    unknown = sorted(given.keys() - SPLITS.keys() - {"data"})
    if unknown:
        raise TypeError(f"expected data as data, {', '.join(SPLITS)}, found {unknown[0]!r}")
    read: dict[tuple[int, str], Any] = {}
    for name, data in given.items():
        key = (id(data), SPLITS.get(name, "train"))
        try:
            if key not in read and data is not None:
                read[key] = as_source(data, key[1])
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return {name: read[id(data), SPLITS.get(name, "train")] for name, data in given.items() if data is not None}


def sources(config: RunConfig, **given: Any) -> dict[str, Any]:
    """The data source of each option: data passed in Python, or otherwise that in the configuration.

    The source of `data` is that of `labeled`: rows without a label join the corpus in any case.

    Raises:
        UserError: both `data` and `labeled`, or an object that holds no rows.
    """
    told = {name: getattr(config, name) for name in ("data", *SPLITS) if getattr(config, name) is not None}
    named = told | given_data(**given)
    if "data" in named and "labeled" in named:
        raise UserError(
            f"data: give {spelled('data')} (rows with and without labels) or {spelled('labeled')}, not both; more texts "
            f"without labels may be in {spelled('unlabeled')}"
        )
    if "data" in named:
        named["labeled"] = named["data"]
    return {name: named[name] for name in SPLITS if name in named}


def is_zero_shot(config: RunConfig, named: Mapping[str, Any]) -> bool:
    """Whether a run starts from descriptions of the classes alone, because it has no labeled rows.

    Args:
        named: see `sources`.

    Raises:
        UserError: there are neither labeled rows nor descriptions, or options that need labeled rows.
    """
    if "labeled" in named:
        return False
    if config.descriptions in (None, "names", "none"):
        raise MissingOptionsError(
            f"labeled: no labeled texts; give {spelled('data', 'my.csv')} (columns text and label; rows without a label are "
            f"the corpus), or {spelled('descriptions', 'classes.yaml')} with one text or several for each class, to start "
            "without labels", "labeled",
        )  # fmt: skip
    give = f"give {spelled('labeled')}"
    if config.sample:
        raise UserError(f"sample: there are no labeled texts to draw from; {give}, or leave out {spelled('sample')}")
    if config.folds:
        raise UserError(f"folds: there are no labels to hold out; {give}, or leave out {spelled('folds')}")
    if config.prior == "labeled":
        raise UserError(f"prior: there are no labels to count; {give}, or {spelled('prior')} with CLASS=SHARE …")
    return True


def fingerprints(named: dict[str, Any], descriptions: Any = None) -> dict[str, str]:
    """Fingerprint of every source. It shows whether a run folder belongs to the same data.

    Args:
        named: see `sources`.
        descriptions: the option. If it names a file, the file is also a source.

    Raises:
        UserError: a file is missing.
    """
    found = {name: fingerprint(source, SPLITS[name]) for name, source in named.items()}
    file = descriptions_file(descriptions)
    return found if file is None else found | {"descriptions": fingerprint(file)}
