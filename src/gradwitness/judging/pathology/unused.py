"""Custom functions whose results nothing uses, so that what they send is never asked for."""

from __future__ import annotations

from gradwitness._printable import one_line
from gradwitness.judging.note import Note
from gradwitness.judging.pathology.detector import Detector, Judgement
from gradwitness.tape import Source


class Unused(Detector):
    """Names functions whose results the program threw away."""

    def notes(self, judged: Judgement) -> list[Note]:  # noqa: D102
        # Without a backward pass nobody wanted gradients.
        notes = []
        for name, line in dict.fromkeys(judged.tape.unused) if judged.tape.sweeps else ():
            apply = f"{one_line(name)}.apply"
            text = (
                f"nothing uses the result of {apply}, so its backward never runs, and its "
                "gradients reach nothing. A custom function does not change its arguments: go on "
                f"with what it returns (x = {apply}(x, ...))."
            )
            notes.append(Note("result used by nothing", text, Source(line=line)))
        return notes
