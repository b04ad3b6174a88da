"""Digits as large as the room allows, for projectors: a font of 3×5 dots, each a square of half cells, at any scale."""

FONT: dict[str, tuple[str, ...]] = {
    "0": ("###", "# #", "# #", "# #", "###"),
    "1": (" # ", "## ", " # ", " # ", "###"),
    "2": ("###", "  #", "###", "#  ", "###"),
    "3": ("###", "  #", " ##", "  #", "###"),
    "4": ("# #", "# #", "###", "  #", "  #"),
    "5": ("###", "#  ", "###", "  #", "###"),
    "6": ("###", "#  ", "###", "# #", "###"),
    "7": ("###", "  #", "  #", "  #", "  #"),
    "8": ("###", "# #", "###", "# #", "###"),
    "9": ("###", "# #", "###", "  #", "###"),
    ".": (" ", " ", " ", " ", "#"),
    "%": ("# #", "  #", " # ", "#  ", "# #"),
    "×": ("   ", "# #", " # ", "# #", "   "),
    "k": ("#  ", "# #", "## ", "# #", "# #"),
    "M": ("#   #", "## ##", "# # #", "#   #", "#   #"),
    "G": ("####", "#   ", "# ##", "#  #", "####"),
    "T": ("###", " # ", " # ", " # ", " # "),
    "—": ("   ", "   ", "###", "   ", "   "),
    "∞": ("     ", " # # ", "# # #", " # # ", "     "),
    " ": (" ", " ", " ", " ", " "),
}
DOTS = 5
"""Dots from top to bottom."""
BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def width(text: str, scale: int) -> int:
    """The columns that a text takes; characters that the font has not are left out."""
    glyphs = [FONT[letter] for letter in text if letter in FONT]
    return scale * (sum(len(glyph[0]) for glyph in glyphs) + max(len(glyphs) - 1, 0))


def height(scale: int) -> int:
    """The rows that a text takes: two dots of scale 1 are one row."""
    return (DOTS * scale + 1) // 2


def largest(text: str, columns: int, rows: int) -> int:
    """The largest scale at which a text fits; 0 where none does."""
    scale = 0
    while width(text, scale + 1) <= columns and height(scale + 1) <= rows:
        scale += 1
    return scale


def draw(text: str, scale: int) -> list[str]:
    """The rows of a text, all equally long."""
    glyphs = [FONT[letter] for letter in text if letter in FONT]
    dots = [" ".join(glyph[row] for glyph in glyphs) for row in range(DOTS)]
    fine = ["".join(dot * scale for dot in row) for row in dots for _ in range(scale)]
    fine += [" " * len(fine[0])] * (len(fine) % 2) if fine else []
    return [
        "".join(BLOCKS[above == "#", below == "#"] for above, below in zip(upper, lower, strict=True))
        for upper, lower in zip(fine[::2], fine[1::2], strict=True)
    ]
