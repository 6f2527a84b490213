"""The paper's figures 4 and 5 from a user's own corrections."""

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_effort(found: list[dict[str, Any]], path: Path) -> None:  # Any: JSON
    """Draw for each group the share of ROIs done by hand per image and AP per night."""
    figure = Figure(figsize=(9.5, 3.2 * max(1, len(found))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(1, len(found)), 2, squeeze=False)
    for (left, right), facts in zip(axes, found, strict=True):
        images = [row for row in facts["images"] if row["share"] is not None]
        numbers = range(1, len(images) + 1)
        left.plot(numbers, [row["share"] for row in images], "o-", color="#7a3b9c")
        left.set(title=facts["group"], xlabel="corrected image", ylabel="share done by hand")
        left.set_ylim(0, 1.05)
        nights = [n for n in facts["nights"] if n["numbers"] and "candidate" in n["numbers"]]
        places = range(1, len(nights) + 1)
        for key, colour in (("candidate", "#1b7f5c"), ("incumbent", "#999999")):
            values = [night["numbers"][key] for night in nights]
            right.plot(places, values, "o-", color=colour, label=key)
        if (ceiling := facts["ceiling"]["own"]) is not None:
            right.axhline(ceiling, color="#c0392b", ls=":", label="annotator with themselves")
        right.set(xlabel="night", ylabel="AP@0.5 on unseen images")
        right.set_ylim(0, 1.05)
        if nights:
            right.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
