"""A picture of one image segmented in several ways, outlines drawn over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cellwatch.core.arrays import Float32, Int32
from cellwatch.core.labels import outlines_of
from cellwatch.files.atomic import writing

CELL_PX = 320  # side of one picture of the sheet
CAPTION_PX = 40
GAP_PX = 8
OUTLINE = (255, 190, 0)
INK, PAPER, MARK = (30, 30, 30), (255, 255, 255), (0, 120, 60)


@dataclass(frozen=True, slots=True)
class SheetCell:
    """One picture of a contact sheet.

    Attributes
    ----------
    labels : (Y, X) int32
    caption : str
        One or two lines.
    is_marked : bool
        Whether it is the one to look at first.
    """

    labels: Int32
    caption: str
    is_marked: bool = False


def write_contact_sheet(
    path: Path, plane: Float32, title: str, rows: Sequence[Sequence[SheetCell]]
) -> None:
    """Write a PNG with a row of pictures for each sequence of cells.

    Parameters
    ----------
    path : Path
        Replaced whole when it exists.
    plane : (Y, X) float32
        What lies under the outlines, 0 drawn black and 1 white.
    title : str
    rows : sequence of sequence of SheetCell
    """
    n_columns = max(len(row) for row in rows)
    width = GAP_PX + n_columns * (CELL_PX + GAP_PX)
    height = CAPTION_PX + len(rows) * (CELL_PX + CAPTION_PX + GAP_PX)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    draw.text((GAP_PX, 12), title, fill=INK, font=font)
    grey = np.clip(plane * 255, 0, 255).astype(np.uint8)
    for n, row in enumerate(rows):
        top = CAPTION_PX + n * (CELL_PX + CAPTION_PX + GAP_PX)
        for m, cell in enumerate(row):
            left = GAP_PX + m * (CELL_PX + GAP_PX)
            sheet.paste(_picture(grey, cell.labels), (left, top))
            colour = MARK if cell.is_marked else INK
            if cell.is_marked:
                frame = (left - 2, top - 2, left + CELL_PX + 1, top + CELL_PX + 1)
                draw.rectangle(frame, outline=MARK, width=3)
            draw.multiline_text((left, top + CELL_PX + 4), cell.caption, fill=colour, font=font)
    with writing(path) as aside:
        sheet.save(aside, format="PNG", optimize=True)


def _picture(grey: np.ndarray, labels: Int32) -> Image.Image:
    # Outlines are drawn after scaling: a line one pixel wide survives it.
    shape = labels.shape
    zoom = CELL_PX / max(shape)
    size = (max(1, round(shape[1] * zoom)), max(1, round(shape[0] * zoom)))
    under = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    large = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    edge = outlines_of(np.asarray(large, np.int32))
    pixels = np.asarray(under).copy()
    pixels[edge] = OUTLINE
    picture = Image.new("RGB", (CELL_PX, CELL_PX), (90, 90, 90))
    picture.paste(Image.fromarray(pixels), ((CELL_PX - size[0]) // 2, (CELL_PX - size[1]) // 2))
    return picture
