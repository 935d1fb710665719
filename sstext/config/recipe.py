"""A recipe: a YAML file with the options of a run that differ from the defaults."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sstext.config.run_config import RunConfig, refuse_unknown
from sstext.config.yaml_text import read_yaml
from sstext.errors import UserError


def read_config(path: str | Path | None, overrides: Mapping[str, Any]) -> RunConfig:
    """Read options from a YAML file, which has only those that differ from the defaults. `overrides` take precedence.

    Raises:
        UserError: the file is missing or is not a mapping, or a key is not an option (the nearest names are given).
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_yaml(Path(path))
        refuse_unknown(values, f"{path}: ")
    return RunConfig(**{**values, **overrides})


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        beside = {file.stem: file for file in path.parent.glob("[!.]*.y*ml")}
        close = difflib.get_close_matches(path.stem, beside, n=1)
        hint = f"; did you mean {beside[close[0]]}?" if close else ""
        raise UserError(f"no such recipe: {path} (looked for {path.absolute()}){hint}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: expected a YAML file, found a folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the recipe as UTF-8") from None
    except (OSError, ValueError) as error:  # a name that is too long, or has a character 0
        raise UserError(f"{str(path)[:300]}: cannot be read ({getattr(error, 'strerror', error)})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `option: value` lines, found {type(content).__name__}")
    return content
