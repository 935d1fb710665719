"""What a single text tells of itself: no words, broken characters, and its script."""

import re
import unicodedata
from enum import IntFlag
from functools import lru_cache


class Trait(IntFlag):
    """Traits that are often faults."""

    EMPTY = 1  #: only blanks
    WORDLESS = 2  #: no letter and no digit, or a word that programs write for an empty cell
    MOJIBAKE = 4  #: UTF-8 or cp1252 that was read in another encoding
    LOST = 8  #: characters that could not be read, U+FFFD, or control characters
    ENTITIES = 16  #: entities of HTML


#: What programs write for an empty cell, and what sites write for a deleted text, in lower case.
PLACEHOLDERS = frozenset(
    {"nan", "null", "none", "n/a", "na", "<na>", "#n/a", "nil", "undefined", "[deleted]", "[removed]", "\\n"}
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|amp|lt|gt|quot|apos|nbsp);")
_LOST = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_HIGH = re.compile(r"[\x80-\U0010ffff]{2,}")


def _sloppy_byte(character: str) -> int | None:
    """The byte that cp1252 shows as this character. Bytes that it does not know stay what they are."""
    if ord(character) < 0x100:
        return ord(character)
    try:
        return character.encode("cp1252")[0]
    except UnicodeEncodeError:
        return None


_BYTES = {code: byte for code in range(0x80, 0x2200) if (byte := _sloppy_byte(chr(code))) is not None}


def repaired(text: str) -> str:
    """A text whose UTF-8 was read as cp1252 or latin-1, or whose cp1252 was read as latin-1, as it was meant.

    Other texts stay as they are.

    >>> repaired("Ã¼ber 5 â‚¬, donâ€™t"), repaired("über 5 €, don’t"), repaired("Ã"), repaired("don\x92t")
    ('über 5 €, don’t', 'über 5 €, don’t', 'Ã', 'don’t')
    """
    return text if text.isascii() else _HIGH.sub(_repaired_run, text).translate(_WINDOWS)


#: Characters of cp1252 that latin-1 shows as control characters.
_WINDOWS = {
    byte: ord(bytes([byte]).decode("cp1252", "ignore") or chr(byte)) for byte in range(0x80, 0xA0) if byte != 0x85
}


def _repaired_run(found: re.Match[str]) -> str:
    run, parts, at = found[0], list[str](), 0
    while at < len(run):
        values = [_BYTES.get(ord(character)) for character in run[at : at + 4]]
        lead = values[0] or 0
        size = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead < 0xF5 else 0
        part = values[:size]
        if size and len(part) == size and all(value is not None for value in part):
            try:
                parts.append(bytes(value for value in part if value is not None).decode("utf-8"))
                at += size
                continue
            except UnicodeDecodeError:
                pass
        parts.append(run[at])
        at += 1
    return "".join(parts)


def traits_of(text: str) -> int:
    """The traits of a text, as a sum of `Trait`.

    >>> Trait(traits_of("Tom &amp; Jerry")), Trait(traits_of("..."))
    (<Trait.ENTITIES: 16>, <Trait.WORDLESS: 2>)
    """
    stripped = text.strip()
    if not stripped:
        return Trait.EMPTY
    found = 0
    if stripped.lower() in PLACEHOLDERS or not (stripped.isalnum() or any(map(str.isalnum, stripped))):
        found |= Trait.WORDLESS
    if "&" in text and _ENTITY.search(text):
        found |= Trait.ENTITIES
    if not text.isascii() and repaired(text) != text:
        found |= Trait.MOJIBAKE
    plain = text.isascii() and text.isprintable()
    if not plain and _LOST.search(repaired(text) if found & Trait.MOJIBAKE else text):
        found |= Trait.LOST
    return found


#: Scripts of one language that are counted together.
_TOGETHER = {
    "HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN", "MODIFIER": "", "MATHEMATICAL": "", "FEMININE": "",
    "MASCULINE": "",
}  # fmt: skip


@lru_cache(maxsize=1 << 16)
def _script_of_letter(character: str) -> str:
    """The script of a letter, by the first word of its name in Unicode. "" if it has none of its own."""
    if not character.isalpha():
        return ""
    script = unicodedata.name(character, "").partition(" ")[0]
    return _TOGETHER.get(script, script)


def script_of(text: str) -> str:
    """The script of most of the first letters of a text, such as "Latin" or "Cyrillic". "" without letters.

    >>> script_of("late again"), script_of("снова поздно, OK"), script_of("また遅い"), script_of("123")
    ('Latin', 'Cyrillic', 'CJK', '')
    """
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else ""
    counts: dict[str, int] = {}
    for character in text[:400]:
        script = "LATIN" if character.isascii() and character.isalpha() else _script_of_letter(character)
        if script:
            counts[script] = counts.get(script, 0) + 1
    if not counts:
        return ""
    script = max(counts, key=lambda name: counts[name])
    return script if script == "CJK" else script.capitalize()
