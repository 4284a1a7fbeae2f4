"""Draw the method, for a light and a dark page: ``method-light.svg`` and ``method-dark.svg``.

    python docs/draw_method.py           # writes both, beside this file
    python docs/draw_method.py --check   # writes nothing; exits with 1 where one is out of date

An image is a shape (what it is: its class) on a texture (how it looks: its variation). Blue is
class-related, orange variation-related, grey not yet told apart; a generated row is both.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from math import cos, pi, sin
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT = 980, 714
TOP = 16
TITLE = "Attentive feature augmentation for long-tailed recognition"
DESCRIPTION = (
    "A batch of long-tailed images goes through the extractor (layers 1 to 3), AFA, the embedder "
    "(layer 4 and pooling) and the classifier. AFA lets the channels of the features X attend to "
    "each other, weighs them by squeeze-and-excitation, and takes a softmax: the mask M, which "
    "splits V, a linear map of X, into X_class and X_var. Real rows are X + X_class; generated "
    "rows are X_class of a rare class plus X_var of another image. Below, the two stages. Stage 1 "
    "trains the whole network, on real rows alone until epoch t, then on real and generated rows. "
    "Stage 2, cRT, trains the classifier alone, on class-balanced samples."
)


class Palette(NamedTuple):
    """The colours of one picture, by what they mean."""

    ink: str
    muted: str
    line: str
    panel: str
    box: str
    real: str
    real_tint: str
    shared: str  # class-related
    shared_tint: str
    varied: str  # variation-related
    varied_tint: str


LIGHT = Palette(
    ink="#1f2328",
    muted="#59636e",
    line="#c4ccd4",
    panel="#f6f8fa",
    box="#ffffff",
    real="#6e7781",
    real_tint="#eaeef2",
    shared="#0b62d0",
    shared_tint="#ddefff",
    varied="#d1600a",
    varied_tint="#ffeedd",
)
DARK = Palette(
    ink="#e6edf3",
    muted="#9aa4af",
    line="#454d56",
    panel="#161b22",
    box="#0d1117",
    real="#9aa4af",
    real_tint="#272e37",
    shared="#62b0ff",
    shared_tint="#14304f",
    varied="#ff9d4d",
    varied_tint="#472a12",
)


# ---- The pen -----------------------------------------------------------------------------------


@dataclass
class Picture:
    """SVG elements, in the order they are drawn."""

    colours: Palette
    elements: list[str] = field(default_factory=list)

    def add(self, element: str, **attributes: object) -> None:
        """Add one element; ``stroke_width`` is the attribute ``stroke-width``."""
        written = (f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.elements.append(f"<{element}{''.join(written)}/>")

    def text(
        self, x: float, y: float, words: str, size: float = 15, *, colour: str = "", **style: object
    ) -> None:
        """Write ``words``, centred on x, on the baseline y.

        Between dollars they are mathematics, where ``_{...}`` is a subscript.
        """
        style = {"text_anchor": "middle", **style}
        written = (f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
        fill = colour or self.colours.ink
        spans = "".join(_spans(words, size))
        self.elements.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}"{"".join(written)}>'
            f"{spans}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, **style: object) -> None:
        """A box with round corners."""
        style = {"rx": 8, "fill": self.colours.box, "stroke": self.colours.line, **style}
        self.add("rect", x=f"{x:g}", y=f"{y:g}", width=f"{width:g}", height=f"{height:g}", **style)

    def arrow(self, x: float, y: float, to_x: float, to_y: float, colour: str = "") -> None:
        """A straight arrow, to the right or down."""
        colour = colour or self.colours.muted
        across, down = (1, 0) if to_y == y else (0, 1)
        stop_x, stop_y = to_x - 6 * across, to_y - 6 * down
        self.add("path", d=f"M{x:g} {y:g}L{stop_x:g} {stop_y:g}", stroke=colour, stroke_width=2)
        wing = f"{-8 * across + 5 * down:g} {-8 * down + 5 * across:g}"
        back = f"{-10 * down:g} {-10 * across:g}"
        self.add("path", d=f"M{to_x:g} {to_y:g}l{wing}l{back}z", fill=colour)

    def svg(self) -> str:
        """The whole file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {TOP} {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" xml:space="preserve" '
            'role="img" aria-labelledby="title desc" '
            'font-family="system-ui, -apple-system, &quot;Segoe UI&quot;, Roboto, '
            'Helvetica, Arial, sans-serif">'
        )
        names = [
            f'<title id="title">{escape(TITLE)}</title>',
            f'<desc id="desc">{escape(DESCRIPTION)}</desc>',
            '<linearGradient id="both">'
            f'<stop offset="0.35" stop-color="{self.colours.shared}"/>'
            f'<stop offset="0.65" stop-color="{self.colours.varied}"/></linearGradient>',
        ]
        return "\n".join([head, *names, *self.elements, "</svg>", ""])


BOTH = "url(#both)"
"""The colour of what is generated: class-related on the left, variation-related on the right."""


def _spans(words: str, size: float) -> Iterator[str]:
    """``words`` in pieces: mathematics in italics, subscripts small, upright and lower."""
    lowered = 0.0
    for number, part in enumerate(words.split("$")):
        for piece in filter(None, re.split(r"(_\{.*?\})", part) if number % 2 else [part]):
            subscript = number % 2 and piece.startswith("_{")
            drop = 0.22 * size if subscript else 0.0
            style = f' dy="{drop - lowered:g}"' if drop != lowered else ""
            lowered = drop
            if subscript:
                style, piece = f'{style} font-size="{0.76 * size:g}"', piece[2:-1]
            elif number % 2:
                style += ' font-style="italic"'
            yield f"<tspan{style}>{escape(piece)}</tspan>" if style else escape(piece)


# ---- Images: a shape on a texture --------------------------------------------------------------


def circle(x: float, y: float, r: float) -> str:
    """The frequent class."""
    return f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"


def polygon(corners: int, inner: float) -> Callable[[float, float, float], str]:
    """A shape of ``corners`` points at radius r, with others at ``inner`` r between them."""

    def draw(x: float, y: float, r: float) -> str:
        points = []
        for i in range(2 * corners):
            angle, radius = pi * i / corners - pi / 2, r if i % 2 == 0 else inner * r
            points.append(f"{x + radius * cos(angle):.2f} {y + radius * sin(angle):.2f}")
        return f"M{'L'.join(points)}z"

    return draw


triangle, star = polygon(3, 0.5), polygon(5, 0.45)
Shape = Callable[[float, float, float], str]
Texture = Callable[[float, float, float], str]


def stripes(x: float, y: float, side: float) -> str:
    """Horizontal lines."""
    return "".join(f"M{x:g} {y + side * k / 6:.2f}h{side:g}" for k in range(1, 6))


def diagonals(x: float, y: float, side: float) -> str:
    """Lines from the lower left to the upper right."""
    path = ""
    for k in range(1, 8):
        start, end = side * max(0.02, k / 4 - 1), side * min(0.98, k / 4)
        path += f"M{x + start:.2f} {y + end:.2f}L{x + end:.2f} {y + start:.2f}"
    return path


def dots(x: float, y: float, side: float) -> str:
    """A grid of dots: dashes without a length, with round ends."""
    places = [side * (k + 0.5) / 4 for k in range(4)]
    return "".join(f"M{x + a:.2f} {y + b:.2f}h0.01" for a in places for b in places)


def tile(
    picture: Picture,
    x: float,
    y: float,
    side: float,
    shape: Shape | None,
    texture: Texture | None,
    *,
    shape_colour: str = "",
    texture_colour: str = "",
    tint: str = "",
    border: str = "",
) -> None:
    """An image or its features: grey unless it is said which part is in which colour."""
    grey = picture.colours.real
    tint = tint or picture.colours.real_tint
    picture.box(x, y, side, side, rx=5, fill=tint, stroke="none")
    if texture is not None:
        width, cap = (side / 9, "round") if texture is dots else (side / 26, "butt")
        style = {"stroke_width": f"{width:.2f}", "stroke_linecap": cap, "opacity": 0.75}
        picture.add("path", d=texture(x, y, side), stroke=texture_colour or grey, **style)
    if shape is not None:
        x_middle, y_middle = x + side / 2, y + side / 2
        picture.add("path", d=circle(x_middle, y_middle, 0.335 * side), fill=tint)
        path = shape(x_middle, y_middle, side * (0.24 if shape is circle else 0.31))
        picture.add("path", d=path, fill=shape_colour or grey)
    picture.box(x, y, side, side, rx=5, fill="none", stroke=border or grey, stroke_width=1.6)


def class_part(picture: Picture, x: float, y: float, side: float, shape: Shape) -> None:
    """X_class of an image."""
    c = picture.colours
    style = {"shape_colour": c.shared, "tint": c.shared_tint, "border": c.shared}
    tile(picture, x, y, side, shape, None, **style)


def variation_part(picture: Picture, x: float, y: float, side: float, texture: Texture) -> None:
    """X_var of an image."""
    c = picture.colours
    style = {"texture_colour": c.varied, "tint": c.varied_tint, "border": c.varied}
    tile(picture, x, y, side, None, texture, **style)


def enhanced(
    picture: Picture, x: float, y: float, side: float, shape: Shape, texture: Texture
) -> None:
    """X + X_class of an image."""
    tile(picture, x, y, side, shape, texture, shape_colour=picture.colours.shared)


def generated(
    picture: Picture, x: float, y: float, side: float, shape: Shape, texture: Texture
) -> None:
    """X_class of one image + X_var of another."""
    c = picture.colours
    tile(
        picture,
        x,
        y,
        side,
        shape,
        texture,
        shape_colour=c.shared,
        texture_colour=c.varied,
        tint=c.varied_tint,
        border=BOTH,
    )


# ---- The three parts of the picture ------------------------------------------------------------


def draw_network(picture: Picture) -> None:
    """On top: from the long-tailed classes to the loss."""
    c, middle = picture.colours, 84
    for i in range(10):  # images per class, 100 to 1
        height = max(2.5, 88 * 100 ** (-i / 9))
        picture.box(21 + 13 * i, 120 - height, 9, height, rx=1.5, fill=c.real, stroke="none")
    picture.add("path", d="M17 120.5h134", stroke=c.line, stroke_width=1.5)
    for i, shape in ((0, circle), (4, triangle), (9, star)):
        size = 6.5 if shape is circle else 8
        picture.add("path", d=shape(25.5 + 13 * i, 135, size), fill=c.real)
    picture.text(84, 164, "images per class", 14, colour=c.muted)
    picture.text(100, 46, "long-tailed", 15, font_weight=600)
    picture.text(100, 64, "classes", 15, font_weight=600)

    picture.arrow(156, middle, 178, middle)
    batch = ((circle, stripes), (circle, diagonals), (triangle, stripes), (star, dots))
    for i, (shape, texture) in enumerate(batch):
        tile(picture, 184 + 45 * (i % 2), 42 + 45 * (i // 2), 39, shape, texture)
    picture.text(226, 164, "batch of $B$", 14, colour=c.muted)
    picture.arrow(274, middle, 296, middle)

    for x, width, name, inside in (
        (300, 106, "Extractor", "layers 1–3"),
        (592, 106, "Embedder", "layer 4, pool"),
        (724, 98, "Classifier", "linear"),
        (848, 112, "Loss", "$L_{ori}$ + $λ L_{all}$"),
    ):
        picture.box(x, 52, width, 64, stroke_width=1.5)
        picture.text(x + width / 2, 80, name, 17, font_weight=600)
        picture.text(x + width / 2, 102, inside, 14, colour=c.muted)
    picture.arrow(408, middle, 446, middle)
    picture.text(426, 74, "$X$", 16)
    picture.box(450, 46, 80, 76, fill=c.panel, stroke=BOTH, stroke_width=2.5)
    picture.text(490, 91, "AFA", 20, font_weight=700)
    picture.arrow(533, middle, 589, middle)
    picture.text(560, 74, "$B$ + $G$", 14)
    picture.text(560, 104, "rows", 14, colour=c.muted)
    picture.arrow(700, middle, 721, middle)
    picture.arrow(824, middle, 845, middle)


def draw_afa(picture: Picture) -> None:
    """In the middle: what AFA does, on one rare and one common image."""
    c, top, side = picture.colours, 190, 58
    path = f"M28 {top}H476L490 {top - 14}L504 {top}H952a8 8 0 0 1 8 8V{top + 282}a8 8 0 0 1 -8 8"
    path += f"H28a8 8 0 0 1 -8 -8V{top + 8}a8 8 0 0 1 8 -8z"
    picture.add("path", d=path, fill=c.panel, stroke=c.line, stroke_width=1.5)
    rare, common = top + 78, top + 178
    middle = (rare + common + side) / 2

    picture.text(40, top + 32, "Split", 18, font_weight=700, text_anchor="start")
    picture.text(70, rare - 12, "$X$", 17)
    rows = (rare, star, dots, "rare"), (common, circle, diagonals, "common")
    for y, shape, texture, name in rows:
        tile(picture, 41, y, side, shape, texture)
        picture.text(70, y + side + 18, name, 14, colour=c.muted)
        class_part(picture, 316, y, side, shape)
        variation_part(picture, 398, y, side, texture)
    picture.text(70, top + 276, "[$B$, $D$, $H$, $W$]", 14, colour=c.muted)
    picture.arrow(106, middle, 127, middle)

    picture.box(131, rare, 134, common + side - rare, stroke_width=1.5)
    steps = ("channels attend", "to each other"), ("squeeze", "and excite"), ("softmax",)
    for lines, y in zip(steps, (rare + 22, rare + 83, rare + 144), strict=True):
        for j, line in enumerate(lines):
            picture.text(198, y + 19 * j, line)
        if y > rare + 22:
            picture.arrow(198, y - 33, 198, y - 17)
    picture.text(198, top + 276, "$V$: linear map of $X$", 14, colour=c.muted)
    picture.arrow(269, middle, 308, middle)
    picture.text(286, middle - 10, "$M$", 17)

    for x, name, means, equation, colour in (
        (345, "class", "what it is", "$M$ ⊙ $V$", c.shared),
        (427, "var", "how it looks", "$V$ − $X_{class}$", c.varied),
    ):
        picture.text(x, rare - 12, f"$X_{{{name}}}$", 17, colour=colour, font_weight=600)
        picture.text(x, top + 254, means, 14, colour=colour)
        picture.text(x, top + 276, equation, 14, colour=c.muted)

    picture.add("path", d=f"M490 {top + 22}v238", stroke=c.line, stroke_width=1.5)
    picture.text(516, top + 32, "Recombine", 18, font_weight=700, text_anchor="start")
    for y in (rare, common):
        picture.text(609, y + 37, "+", 24, colour=c.muted)
        picture.text(713, y + 37, "=", 24, colour=c.muted)
    tile(picture, 528, rare, side, star, dots)
    class_part(picture, 632, rare, side, star)
    enhanced(picture, 736, rare, side, star, dots)
    class_part(picture, 528, common, side, star)
    variation_part(picture, 632, common, side, diagonals)
    generated(picture, 736, common, side, star, diagonals)
    for y, first, second in (
        (rare, "$X$", "its $X_{class}$"),
        (common, "rare $X_{class}$", "any other $X_{var}$"),
    ):
        picture.text(557, y + side + 18, first, 14, colour=c.muted)
        picture.text(661, y + side + 18, second, 14, colour=c.muted)
    for y, name, lines in (
        (rare, "Real row", ("in training", "and inference")),
        (common, "Generated row", ("in training; the rarer", "a class, the more")),
    ):
        picture.text(806, y + 14, name, 16, font_weight=600, text_anchor="start")
        for j, line in enumerate(lines):
            picture.text(806, y + 35 + 18 * j, line, 14, colour=c.muted, text_anchor="start")


def draw_training(picture: Picture) -> None:
    """At the bottom: the two stages, in time."""
    c, top, side = picture.colours, 530, 36
    for x, name, what in ((20, "Stage 1", "features"), (712, "Stage 2", "classifier (cRT)")):
        picture.text(x, top - 12, name, 18, font_weight=700, text_anchor="start")
        picture.text(x + 82, top - 12, what, 16, colour=c.muted, text_anchor="start")
    for x, width, name, below in (
        (20, 240, "Real rows", "$L_{ori}$"),
        (264, 424, "Real and generated rows", "$L_{ori}$ + $λ L_{all}$"),
        (712, 248, "Class-balanced samples", "$L_{ori}$"),
    ):
        picture.box(x, top, width, 110, fill=c.panel, stroke_width=1.5)
        picture.text(x + width / 2, top + 76, name, 16, font_weight=600)
        picture.text(x + width / 2, top + 98, below, 15)
    rows: tuple[tuple[Shape, Texture], ...] = (circle, stripes), (circle, diagonals), (star, dots)
    for i, (shape, texture) in enumerate(rows):
        for x in (140 - 64, 476 - 130):
            enhanced(picture, x + 46 * i, top + 14, side, shape, texture)
    for i, (shape, texture) in enumerate(((star, stripes), (star, diagonals), (triangle, dots))):
        generated(picture, 476 + 8 + 46 * i, top + 14, side, shape, texture)
    for i, (shape, texture) in enumerate(((circle, stripes), (triangle, stripes), (star, dots))):
        enhanced(picture, 836 - 64 + 46 * i, top + 14, side, shape, texture)
    for x, epoch, anchor in ((20, "0", "start"), (262, "$t$", "middle"), (688, "$T$", "end")):
        picture.text(x, top + 130, f"epoch {epoch}", 14, colour=c.muted, text_anchor=anchor)
    for x, trained, words in (
        (354, 4, "the whole network trains"),
        (836, 1, "the classifier alone trains"),
    ):
        for i in range(4):  # extractor, AFA, embedder, classifier
            colour = BOTH if i == 1 else c.real
            trains = {"fill": colour} if i >= 4 - trained else {"stroke_dasharray": "4 3"}
            left = x - 98 + 52 * i
            picture.box(left, top + 142, 40, 22, rx=5, stroke=colour, stroke_width=1.5, **trains)
            if i:
                picture.add("path", d=f"M{left - 11} {top + 153}h10", stroke=c.real, stroke_width=2)
        picture.text(x, top + 186, words, 15)


def draw(colours: Palette) -> str:
    """The picture in these colours, as SVG."""
    picture = Picture(colours)
    draw_network(picture)
    draw_afa(picture)
    draw_training(picture)
    return picture.svg()


def main() -> int:
    """Write both files, or compare them (``--check``)."""
    outdated = []
    for name, colours in (("light", LIGHT), ("dark", DARK)):
        path = Path(__file__).with_name(f"method-{name}.svg")
        drawn = draw(colours)
        if "--check" not in sys.argv[1:]:
            path.write_text(drawn, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != drawn:
            outdated.append(path.name)
    if outdated:
        print(f"{', '.join(outdated)}: out of date; run `python docs/draw_method.py`")
    return bool(outdated)


if __name__ == "__main__":
    sys.exit(main())
