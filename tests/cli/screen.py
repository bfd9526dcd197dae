"""A terminal of the width that a test wants: bytes in, lines out.  What it does not know it refuses."""

from __future__ import annotations

import codecs
import re

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b(.)|([\r\n\b])|([^\x1b\r\n\b]+)", re.DOTALL)
_BEGUN = re.compile(r"\x1b(\[[?\d;]*)?\Z")


class Screen:
    """Lines as they stand after all that was fed; `cursor_shown` as a terminal would have it.

    Lines longer than `columns` wrap, as they do on a terminal, so that moving up by too few lines leaves garbage.
    """

    def __init__(self, columns: int) -> None:
        self.cursor_shown = True
        self.coloured = False
        self._columns = columns
        self._lines = [""]
        self._row = self._column = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._waiting = ""

    @property
    def text(self) -> str:
        return "\n".join(line if len(line) == self._columns else line.rstrip() for line in self._lines).rstrip()

    def resize(self, columns: int) -> None:
        """Another width: long lines are wrapped anew, and the cursor stays at the end of its line."""
        assert self._row == len(self._lines) - 1, "the cursor is in the last line"
        wrapped = [line[at : at + columns] for line in self._lines for at in range(0, max(1, len(line)), columns)]
        self._columns, self._lines = columns, wrapped
        self._row, self._column = len(wrapped) - 1, min(len(wrapped[-1]), columns)

    def feed(self, data: bytes) -> None:
        """Show more bytes; a sequence that they cut in two waits for its rest."""
        whole = self._waiting + self._decoder.decode(data)
        begun = _BEGUN.search(whole)
        self._waiting = whole[begun.start() :] if begun else ""
        for parameters, command, escape, control, text in _TOKEN.findall(whole[: begun.start()] if begun else whole):
            if command:
                self._command(parameters, command)
            elif control:
                self._control(control)
            elif text:
                self._put(text)
            else:
                raise AssertionError(f"unexpected escape sequence: {escape!r}")

    def _command(self, parameters: str, command: str) -> None:
        count = int(parameters) if parameters.isdigit() else 1
        match command:
            case "m":
                self.coloured |= any(30 <= int(code) <= 107 for code in parameters.split(";") if code)
            case "A":
                self._row = max(0, self._row - count)
            case "K":
                self._lines[self._row] = "" if parameters == "2" else self._lines[self._row][: self._column]
            case "h" | "l" if parameters == "?25":
                self.cursor_shown = command == "h"
            case _:
                raise AssertionError(f"unexpected control sequence: {parameters!r} {command!r}")

    def _control(self, control: str) -> None:
        if control == "\n":
            self._row += 1
            self._lines += [""] * (self._row + 1 - len(self._lines))
        self._column = 0

    def _put(self, text: str) -> None:
        for char in text:
            if self._column == self._columns:
                self._control("\n")
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + char + line[self._column + 1 :]
            self._column += 1
