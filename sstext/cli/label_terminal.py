"""Labeling in the terminal. It needs the extra `label`."""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Input, Static

from sstext.data.label_file import LabelFile, MisspelledError
from sstext.errors import UserError
from sstext.plain import plain, plain_text

#: Keys of the first classes. Others are found by the beginning of their names.
KEYS = "123456789"


class LabelApp(App[None]):
    """One text, its classes with their keys, and what to press.

    Args:
        file: the file that is labeled.
    """

    CSS = """
    #text { border: round $primary; padding: 1 2; }
    #classes, #state { padding: 0 2; }
    #name { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"pick({number})", show=False) for number, key in enumerate(KEYS)),
        Binding("enter", "guess", "Take the guess"),
        Binding("slash", "search", "Other class"),
        Binding("s", "skip", "Skip"),
        Binding("u", "undo", "Undo"),
        Binding("q", "quit", "Quit"),
        Binding("escape", "close", show=False),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, file: LabelFile) -> None:
        super().__init__()
        self.file = file
        self._doubted = ""  # a new name that may be misspelled: typed again, it is a new class

    def compose(self) -> ComposeResult:
        yield Static(id="state", markup=False)
        with VerticalScroll():
            yield Static(id="text", markup=False)
            yield Static(id="classes", markup=False)
        yield Input(placeholder="beginning of the name of a class, or a new name", id="name")
        yield Footer()

    def on_mount(self) -> None:
        self.show()

    def show(self, said: str = "") -> None:
        """Show the current text."""
        current, file = self.file.current(), self.file
        state, text, classes = (self.query_one(f"#{name}", Static) for name in ("state", "text", "classes"))
        state.update(f"{file.done:,} of {file.total:,} labeled{f'  ·  {plain(said)}' if said else ''}")
        if current is None:
            text.update("All texts are labeled.")
            classes.update("Press u to take the last label back, or q to quit.")
            return
        text.update(plain_text(current.text))
        guess = "  ← guess (Enter)"
        lines = [
            f"{KEYS[number] if number < len(KEYS) else '/'}  {plain(name)}{guess if name == current.guess else ''}"
            for number, name in enumerate(file.classes)
        ]
        lines = lines or ["No class is known yet: press / and type the name of the first one."]
        classes.update("\n".join([*lines, "", f"Chosen because: {plain(current.reason)}"] if current.reason else lines))

    def _give(self, label: str) -> None:
        if (current := self.file.current()) is not None:
            try:
                self.file.give(current.row, label, new=label == self._doubted)
            except UserError as error:
                self._doubted = label if isinstance(error, MisspelledError) else ""
                self.show(str(error))
                return
            self._doubted = ""
            self.show(f"last: {label}")

    def action_pick(self, number: int) -> None:
        """Label the text with a class by its number."""
        if number < len(self.file.classes):
            self._give(self.file.classes[number])

    def action_guess(self) -> None:
        """Label the text as the model does."""
        current = self.file.current()
        if current is not None and current.guess:
            self._give(current.guess)

    def action_search(self) -> None:
        """Ask for the name of a class."""
        if self.file.current() is not None:
            asked = self.query_one("#name", Input)
            asked.display = True
            asked.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the class whose name is typed or begins so. A name that no class begins with is a new class."""
        typed = event.value.strip()
        event.input.value, event.input.display = "", False
        self.set_focus(None)
        exact = [name for name in self.file.classes if name == typed]
        fitting = exact or [name for name in self.file.classes if name.lower().startswith(typed.lower())]
        if not typed:
            self.show()
        elif len(fitting) > 1:
            self.show(f"{typed!r} may be {', '.join(fitting[:5])}: type more of it")
        else:
            self._give(fitting[0] if fitting else typed)

    def action_close(self) -> None:
        """Close the question for the name of a class."""
        asked = self.query_one("#name", Input)
        asked.value, asked.display = "", False
        self.set_focus(None)

    def action_skip(self) -> None:
        """Leave the text for later."""
        self._doubted = ""
        if (current := self.file.current()) is not None:
            self.file.skip(current.row)
            self.show("skipped")

    def action_undo(self) -> None:
        """Take the last label or skip back."""
        self._doubted = ""
        try:
            self.show("taken back" if self.file.undo() else "nothing to take back")
        except UserError as error:
            self.show(str(error))
