"""A reporter that remembers what was said."""

from sstext.progress import Reporter


class Notes(Reporter):
    """Keeps the sentences instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)
