"""Explain errors of the Hub and the network in one sentence, with the remedy."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sstext.errors import UserError

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN (create a token at https://huggingface.co/settings/tokens)"


#: Seconds after which a network that does not respond counts as unreachable.
PATIENCE = 10.0


def hub_trouble(error: BaseException, name: str, *, token: str | None = None) -> str | None:
    """Explain an error of the Hub or the network. Returns None if the error has another cause.

    Libraries wrap the errors that they catch, so the whole chain of causes is examined.

    Args:
        error: the error that was raised.
        name: name of the repository, as the user gave it.
        token: token of the request. Default: HF_TOKEN or the token of `hf auth login`.
    """
    chain = _causes(error)
    for kind in (OfflineModeIsEnabled, LocalTokenNotFoundError, HFValidationError, HfHubHTTPError):
        found = next((cause for cause in chain if isinstance(cause, kind)), None)
        if isinstance(found, OfflineModeIsEnabled):
            return "the Hub was not used, because HF_HUB_OFFLINE is set; unset it to use the Hub"
        if isinstance(found, LocalTokenNotFoundError):
            return f"you are not logged in; {LOG_IN}"
        if isinstance(found, HFValidationError):
            return "there is no such folder, and this is not a valid name on the Hub, such as user/name"
        if isinstance(found, HfHubHTTPError):
            return _explain_response(found, name, token if token is not None else get_token())
    broken = next((cause for cause in reversed(chain) if _is_network(cause)), None)
    if broken is None:
        return None
    reason = " ".join(str(broken).split())[:200]
    return (
        f"the Hub ({constants.ENDPOINT}) cannot be reached, or the connection was lost; check the network and try "
        f"again ({reason})"
    )


def ask_once(
    name: str,
    revision: str | None = None,
    *,
    kind: str = "model",
    cached: Sequence[str] = ("config.json",),
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> list[str] | None:
    """Send one request for a repository to the Hub, with a time limit. Libraries would retry for a minute and a half.

    Args:
        name: name on the Hub. No request is sent for a folder.
        revision: branch, tag or commit. Default: main.
        kind: `model` or `dataset`.
        cached: if one of these files is in the cache, no request is sent.
        token, cache_dir: as in `from_pretrained`.

    Returns:
        The names of the files in the repository, or None if no request was sent.
    """
    if os.path.exists(name) or constants.HF_HUB_OFFLINE:
        return None
    if any(isinstance(try_to_load_from_cache(name, file, cache_dir, revision), str) for file in cached):
        return None
    found = HfApi(token=token).repo_info(name, revision=revision, repo_type=kind, timeout=PATIENCE)
    return [file.rfilename for file in getattr(found, "siblings", None) or []]


@contextlib.contextmanager
def hub_explained(doing: str, name: str, token: str | None = None) -> Iterator[None]:
    """Turn errors of the Hub inside the block into a `UserError` that begins with `doing`."""
    try:
        yield
    except UserError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        trouble = hub_trouble(error, name, token=token) or " ".join(str(error).split())[:300]
        raise UserError(f"{doing} {name!r}: {trouble}") from error


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _is_network(error: BaseException) -> bool:
    """Whether an error comes from the network, below HTTP: from the client or its sockets."""
    return isinstance(error, HTTPError | ConnectionError | TimeoutError) and not isinstance(error, HfHubHTTPError)


def _explain_response(error: HfHubHTTPError, name: str, token: str | None) -> str | None:
    """Explain an error response of the Hub. Returns None if only a file is missing in the repository."""
    status = error.response.status_code
    if isinstance(error, RemoteEntryNotFoundError):
        return None
    if isinstance(error, GatedRepoError):
        return f"you must first accept its authors' terms; visit {constants.ENDPOINT}/{name}, then {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no such branch, tag or commit; find them at {constants.ENDPOINT}/{name}/tree/main"
    if status == 401 and token:
        return f"the Hub refuses the token; {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        if token:
            return (
                "there is no such folder, and the Hub has no such name that your token may read; check the name and "
                "the token"
            )
        return f"there is no such folder, and the Hub has no such name, or it is private; check the name, or {LOG_IN}"
    if status == 401:
        return f"you are not logged in; {LOG_IN}"
    if status == 403:
        return "your token has no permission for this; it needs write access, and the repository must be yours"
    if status >= 500 or status == 429:
        return f"the Hub is busy or out of order (status {status}); try again later"
    reason = " ".join(str(error.server_message or error).split())
    return f"the Hub refused the request (status {status}): {reason[:300]}"
