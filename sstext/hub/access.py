"""What went wrong between here and the Hub: one sentence, with the remedy."""

import contextlib
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

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN (tokens are made at https://huggingface.co/settings/tokens)"


#: Seconds until a network that does not answer counts as dead.
PATIENCE = 10.0


def hub_trouble(error: BaseException, name: str, *, token: str | None = None) -> str | None:
    """Say what the Hub or the way to it had against a request; None where the error is about something else.

    Libraries wrap what they catch: the whole chain of causes is looked through.

    Args:
        error: what was raised.
        name: of the repository, as the user gave it.
        token: what was asked with (default: the one of the usual places).
    """
    chain = _causes(error)
    for kind in (OfflineModeIsEnabled, LocalTokenNotFoundError, HFValidationError, HfHubHTTPError):
        found = next((cause for cause in chain if isinstance(cause, kind)), None)
        if isinstance(found, OfflineModeIsEnabled):
            return "the Hub was not asked, because HF_HUB_OFFLINE is set; unset it to use the Hub"
        if isinstance(found, LocalTokenNotFoundError):
            return f"nobody is logged in; {LOG_IN}"
        if isinstance(found, HFValidationError):
            return "there is no such folder, and this is no name on the Hub; those read user/name"
        if isinstance(found, HfHubHTTPError):
            return _answered(found, name, token if token is not None else get_token())
    broken = next((cause for cause in reversed(chain) if _is_network(cause)), None)
    if broken is None:
        return None
    reason = " ".join(str(broken).split())[:200]
    return (
        f"the Hub ({constants.ENDPOINT}) cannot be reached, or broke off; check the network, and try again ({reason})"
    )


def ask_once(
    name: str, revision: str | None = None, *, kind: str = "model", cached: Sequence[str] = ("config.json",)
) -> list[str] | None:
    """Ask the Hub for a repository, once and with a limit in time, before a library asks that tries for a minute and a half.

    Args:
        name: on the Hub; a folder is not asked for.
        cached: files of which one in the cache is enough to go on without a network.

    Returns:
        The files that are there; None where the Hub was not asked.
    """
    if Path(name).exists() or constants.HF_HUB_OFFLINE:
        return None
    if any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in cached):
        return None
    found = HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=PATIENCE)
    return [file.rfilename for file in getattr(found, "siblings", None) or []]


@contextlib.contextmanager
def hub_explained(doing: str, name: str, token: str | None = None) -> Iterator[None]:
    """Turn what goes wrong with the Hub inside the block into a `UserError` that begins with what was being done."""
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
    """A failure below HTTP: of the client's own kinds, or of the sockets under it."""
    return isinstance(error, HTTPError | ConnectionError | TimeoutError) and not isinstance(error, HfHubHTTPError)


def _answered(error: HfHubHTTPError, name: str, token: str | None) -> str | None:
    """What an answer of the Hub means; None where it has everything but a file."""
    status = error.response.status_code
    if isinstance(error, RemoteEntryNotFoundError):
        return None
    if isinstance(error, GatedRepoError):
        return f"its authors want their terms accepted first: visit {constants.ENDPOINT}/{name}, then {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no such branch, tag or commit; see {constants.ENDPOINT}/{name}/tree/main for those it has"
    if status == 401 and token:
        return f"the Hub refuses the token; {LOG_IN}"
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        if token:
            return (
                "not a folder here, and the Hub has no such name that your token may see; check the name and the token"
            )
        return f"not a folder here, and the Hub has no such name, or it is private; check the name, or {LOG_IN}"
    if status == 401:
        return f"nobody is logged in; {LOG_IN}"
    if status == 403:
        return "your token may not do that; it must have the right to write there, and the name must be yours"
    if status >= 500 or status == 429:
        return f"the Hub is busy or broken (it answers {status}); try again later"
    reason = " ".join(str(error.server_message or error).split())
    return f"the Hub refuses (it answers {status}): {reason[:300]}"
