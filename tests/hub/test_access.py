"""One sentence for whatever the Hub's client raises. (What fails for real: test_pulling.py, test_sharing.py.)"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
)

from sstext.errors import UserError
from sstext.hub.access import ask_once, hub_explained, hub_trouble


def answered(kind: type, status: int, message: str = "") -> Any:
    """An answer of the Hub as the client raises it."""
    error = kind.__new__(kind)
    error.response, error.server_message = SimpleNamespace(status_code=status), message
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lambda: OfflineModeIsEnabled(), "HF_HUB_OFFLINE is set; unset it"),
        (lambda: HFValidationError(), "this is not a valid name on the Hub"),
        (lambda: answered(GatedRepoError, 403), "you must first accept its authors' terms; visit"),
        (lambda: answered(HfHubHTTPError, 401), "the Hub refuses the token"),
        (lambda: answered(HfHubHTTPError, 403), "your token has no permission for this"),
        (lambda: answered(HfHubHTTPError, 503), "the Hub is busy or out of order (status 503); try again later"),
        (lambda: answered(HfHubHTTPError, 429), "status 429"),
        (lambda: answered(HfHubHTTPError, 400, "a\nreason"), "the Hub refused the request (status 400): a reason"),
        (
            lambda: ConnectionRefusedError("refused"),
            "or the connection was lost; check the network and try again (refused)",
        ),
        (lambda: TimeoutError(), "cannot be reached"),
    ],
)
def test_every_trouble_has_a_remedy(error: Callable[[], BaseException], expected: str) -> None:
    """Guards the sentence, also where libraries have wrapped what they caught, twice."""
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = OSError("cannot load")
    wrapped.__cause__.__context__ = error()
    for raised in (error(), wrapped):
        found = hub_trouble(raised, "ada/tickets", token="a token")
        assert found is not None
        assert expected in found


def test_what_is_not_the_hubs_is_left_alone() -> None:
    """Guards against "check the network" for a broken file: such errors keep their own words."""
    assert hub_trouble(ValueError("bad config"), "ada/tickets") is None
    assert hub_trouble(answered(RemoteEntryNotFoundError, 404), "ada/tickets") is None
    with (
        pytest.raises(UserError, match=r"^cannot push to 'ada/tickets': bad card$"),
        hub_explained("cannot push to", "ada/tickets"),
    ):
        raise ValueError("bad\ncard")
    with pytest.raises(UserError, match=r"^as it was$"), hub_explained("cannot push to", "ada/tickets"):
        raise UserError("as it was")


def test_folders_and_offline_machines_ask_nobody(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards work without a network: a folder is never taken for a name, and HF_HUB_OFFLINE is obeyed."""

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("sstext.hub.access.HfApi.repo_info", asked)
    assert ask_once("ada/never-seen") is None  # conftest.py has set HF_HUB_OFFLINE
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert ask_once(str(tmp_path)) is None
    with pytest.raises(AssertionError, match="was asked"):
        ask_once("ada/never-seen")
