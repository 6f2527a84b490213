"""Series of MetaMorph: an `.nd` file lists waves, stage positions and times; files have all z."""

import re
from pathlib import Path

from cellwatch.images.sets.pages import n_pages
from cellwatch.images.sets.planes import ImageSet, Plane, SetImage, in_order, member_name
from cellwatch.images.sets.settings import read_settings

PARTS = r"(?:_w(?P<wave>\d+).*?)?(?:_s(?P<stage>\d+))?(?:_t(?P<time>\d+))?\.(?:stk|tiff?)"
FIRST_PART = re.compile(r"_(?:w\d|s\d|t\d)")


def index_of(path: Path) -> Path | None:
    """Return the `.nd` file of the series that a file belongs to; None: there is none."""
    if path.suffix.lower() not in (".stk", ".tif", ".tiff"):
        return None
    for match in FIRST_PART.finditer(path.name):
        for suffix in (".nd", ".ND"):
            index = path.with_name(path.name[: match.start()] + suffix)
            if index.exists():
                return index
    return None


def read(index: Path) -> ImageSet:
    """Read a series: its files are named after what the `.nd` file lists."""
    settings = read_settings(index)
    named = re.compile(re.escape(index.stem) + PARTS, re.IGNORECASE)
    files = [(file, named.fullmatch(file.name)) for file in sorted(index.parent.iterdir())]
    images: dict[str, SetImage] = {}
    found = [(file, match) for file, match in files if match]
    depth = {file: n_pages(file) for file, _ in found}
    deepest = max(depth.values(), default=1)
    for file, match in found:
        stage, wave, time = (int(match[key] or 1) for key in ("stage", "wave", "time"))
        name = settings.get(f"Stage{stage}") or f"position {stage}"
        flat = deepest > 1 and depth[file] == 1
        image = images.setdefault(f"{stage:06d}", SetImage(name, {}, {}))
        image.channels[wave] = settings.get(f"WaveName{wave}", "")
        for z in range(deepest if flat else depth[file]):
            image.planes[time, z, wave] = Plane(file, 0 if flat else z)
    flat_waves = sorted({int(m["wave"] or 1) for f, m in found if deepest > 1 and depth[f] == 1})
    notes = tuple(
        f"channel '{settings.get(f'WaveName{wave}', wave)}' has one plane, which stands for each z"
        for wave in flat_waves
    )
    names: list[str] = []
    for number, each in enumerate(in_order(images), start=1):
        names.append(member_name(each.name, number, names))
    finished = (
        SetImage(name, each.planes, each.channels, notes=notes)
        for name, each in zip(names, in_order(images), strict=True)
    )
    return ImageSet("metamorph", tuple(finished), lacks=_lacks(settings, len(found)))


def _lacks(settings: dict[str, str], n_found: int) -> str:
    counts = {
        "DoWave": "NWavelengths",
        "DoStage": "NStagePositions",
        "DoTimelapse": "NTimePoints",
    }
    expected = 1
    for switch, count in counts.items():
        if settings.get(switch, "").upper() == "TRUE":
            expected *= int(settings.get(count) or 1)
    return "" if n_found >= expected else f"{expected - n_found} of {expected} files are not there"
