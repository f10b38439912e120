"""README's picture of the demo's live view, taken from a run.

    python -m tests.tools.picture [OPTIONS]

Runs the demo with its options, keeps what the view shows while there is no worker, and draws the
middle one of these frames as it looks on a terminal of 100 columns and 30 rows. The figures in the
picture are those of that run: quote machine and date below it.
"""

import io
import re
import sys

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from tests.tools.tables import ROOT
from worker.demo import run, terminal, view

PICTURE = ROOT / "worker" / "demo" / "live-view.svg"
COLUMNS, ROWS = 100, 30
# Rich's own names a font on a server; a picture in a document must not fetch anything.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace"
)


def drawn(screen):
    """Whatever Rich can print, as an SVG of a terminal."""
    console = Console(
        file=io.StringIO(), record=True, width=COLUMNS, height=ROWS, force_terminal=True,
        color_system="truecolor", emoji=False, markup=False, highlight=False,
    )  # fmt: skip
    console.print(screen)
    return console.export_svg(title="make demo", code_format=_FORMAT, unique_id="live-view")


def main(options):
    frames = []
    shown = terminal.LiveView.frame

    def frame(stream, moment):
        if moment.story.down:
            frames.append(moment)
        shown(stream, moment)

    terminal.LiveView.frame = frame
    code = run.demo(options)
    if code == 0 and frames:
        middle = view.draw(frames[len(frames) // 2], width=COLUMNS, height=ROWS)
        PICTURE.write_text(drawn(middle), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
