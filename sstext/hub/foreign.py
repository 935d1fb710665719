"""What a stranger's model may not bring along: files of other folders, and code."""

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from sstext.errors import UserError

#: Lists of the files of weights that are in several files.
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
#: Keys of a configuration that name code, which transformers runs for those who trust it. We never run or ship any.
CODE = frozenset({"auto_map", "custom_pipelines", "custom_generate"})
#: Configurations in which they may stand.
CONFIGURATIONS = ("config.json", "tokenizer_config.json", "generation_config.json")


def check_shards(
    name: str,
    there: Sequence[str] | None = None,
    *,
    revision: str | None = None,
    subfolder: str = "",
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> None:
    """Refuse a model whose index of weights names a file outside of its folder.

    Args:
        name: folder or Hub name.
        there: names of the files of a Hub repository, if they are known (`sstext.hub.access.ask_once`).
        revision, subfolder, token, cache_dir, local_files_only: as in `from_pretrained`.

    Raises:
        UserError: an index does so, or is not readable.
    """
    for index in INDEXES:
        inside = f"{subfolder}/{index}" if subfolder else index
        file: Any = Path(name, inside)
        if not os.path.isdir(name):
            file = try_to_load_from_cache(name, inside, cache_dir, revision)
            if not isinstance(file, str) and inside in (there or ()) and not local_files_only:
                file = hf_hub_download(name, inside, revision=revision, token=token, cache_dir=cache_dir)
        if isinstance(file, str | Path) and Path(file).is_file():
            read_shards(Path(file), f"{name}: {inside}")


def read_shards(file: Path, name: str) -> list[str]:
    """The files that an index of weights names.

    Args:
        file: the index.
        name: what it is called in messages.

    Raises:
        UserError: it is not readable, or names a file outside of its folder.
    """
    try:
        names = {str(shard) for shard in read_settings(file, name)["weight_map"].values()}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{name} is damaged: it has no object `weight_map`; save the model again") from None
    for shard in sorted(names):
        if not shard or leaves_folder(shard):
            raise UserError(
                f"{name} names {shard!r}, which is outside of the model's folder; no file is read from there, because it may "
                "be any file of this machine; ask its authors for a correct index"
            )
    return sorted(names)


def read_settings(file: Path, name: str | None = None) -> dict[str, Any]:
    """A JSON object in a file of a model.

    Raises:
        UserError: it is not one.
    """
    try:
        settings = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"{name or file} is damaged: it is not JSON ({problem}); save the model again") from None
    if not isinstance(settings, dict):
        found = type(settings).__name__
        raise UserError(f"{name or file} is damaged: expected a JSON object, found {found}; save the model again")
    return settings


def leaves_folder(name: str) -> bool:
    """Whether the name of a file leads out of the folder that it is relative to, on any system.

    >>> leaves_folder("model-00001-of-00002.safetensors"), leaves_folder("../outside.safetensors"), leaves_folder("C:/x")
    (False, True, True)
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return bool(posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name)


def without_code(settings: Any) -> Any:
    """A configuration without the keys that name code, at any depth.

    >>> without_code({"auto_map": {"AutoModel": "modeling.Mine"}, "text_config": {"auto_map": {}, "layers": 2}})
    {'text_config': {'layers': 2}}
    """
    if not isinstance(settings, dict):
        return settings
    return {
        name: value if name in ("id2label", "label2id") else without_code(value)
        for name, value in settings.items()
        if name not in CODE
    }


def drop_code(folder: Path) -> None:
    """Remove the keys that name code from the configurations that were just saved in a folder."""
    for file in (folder / name for name in CONFIGURATIONS):
        if file.is_file():
            settings = read_settings(file)
            left = without_code(settings)
            if left != settings:
                file.write_text(json.dumps(left, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
