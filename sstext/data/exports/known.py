"""The export formats that are recognized."""

from sstext.data.exports.argilla import Argilla
from sstext.data.exports.cleanlab import Cleanlab
from sstext.data.exports.doccano import Doccano
from sstext.data.exports.export import Export
from sstext.data.exports.label_studio import LabelStudio
from sstext.data.exports.prodigy import Prodigy
from sstext.data.parsers import Rows

#: The most particular first. A new format is one class and one entry.
EXPORTS: tuple[Export, ...] = (LabelStudio(), Argilla(), Prodigy(), Cleanlab(), Doccano())


def recognized(rows: Rows) -> Export | None:
    """The format of the first rows of a file, or None if they are plain."""
    return next((export for export in EXPORTS if len(rows) and export.recognizes(rows)), None)
