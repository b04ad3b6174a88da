"""The headless command that puts models side by side: points of one session, or of several."""

from collections.abc import Sequence

from labbench import folders
from labbench.exits import BAD, SAME, say
from labbench.listing import print_json, print_lines
from labbench.session.comparison import PARTS, Line, Subject, classes, layers, legend, part, text_of, totals
from labbench.session.jsonl import BadFile
from labbench.session.named import named_point


def compare(named: Sequence[str], form: str, everything: bool = False) -> int:
    """Print tables of these models (FILE or FILE@POINT), as text or as "json"; `everything`: what is equal, too."""
    if len(named) < 2:
        return say("two models at least: labbench compare FILE[@POINT] FILE[@POINT], POINT a number or a name", BAD)
    subjects = []
    for text in named:
        try:
            found, notice = named_point(text, folders.session_file)
        except (BadFile, ValueError) as error:
            return say(str(error), BAD)
        if notice:
            say(notice)
        subjects.append(found)
    if form == "json":
        print_json(value_of(subjects))
        return SAME
    print_lines(legend(subjects))
    for which in PARTS:
        print_lines(["", f"{'training on the way' if which == 'curves' else which}:"])
        print_lines(text_of(part(subjects, which, everything)))
    return SAME


def value_of(subjects: Sequence[Subject]) -> dict[str, object]:
    """The same as data, with the curves that led to each model."""
    return {
        "models": [
            {
                "source": one.source,
                "number": one.number,
                "name": one.name,
                "operation": one.words,
                "snapshot": one.snapshot,
                "curves": one.training.curves,
                "runs": one.training.runs,
            }
            for one in subjects
        ],
        "differences": {
            "totals": _lines(totals(subjects)),
            "layers": _lines(layers(subjects)),
            "classes": {split: _lines(classes(subjects, split)) for split in ("validation", "test")},
        },
    }


def _lines(lines: Sequence[Line]) -> list[dict[str, object]]:
    return [
        {"what": " ".join(word.strip() for word in line.words), "values": [cell.text for cell in line.cells]}
        for line in lines
        if line.differs
    ]
