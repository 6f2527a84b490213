"""Which images a command's arguments name: files, folders of images, files that hold several."""

from pathlib import Path

from cellwatch.cli.console import complain, tell
from cellwatch.errors import UnreadableImage, UsageError
from cellwatch.files.members import WITH_MEMBERS, is_there
from cellwatch.images.suffixes import JPEGS, SUFFIXES, ZARRS, suffix_of

OURS = ("_masks", "_cp_masks", "_flows", "_seg", "_cp_output")  # what segmenters add to a name


def find_images(paths: list[Path], *, is_recursive: bool) -> list[Path]:
    """List the image files that arguments name; in folders, masks are left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and suffix_of(path.name) not in ZARRS:
            inside = path.rglob("*") if is_recursive else path.iterdir()
            images = sorted(p for p in inside if suffix_of(p.name) in SUFFIXES and _is_input(p))
            images = _without_previews(_without_parts(images))
            if not images:
                raise UsageError(f"{path} holds no image ({', '.join(SUFFIXES)})")
            found += images
        elif is_there(path):
            found.append(path)
        else:
            raise UsageError(f"there is no file {path}")
    return [image for path in found for image in _images_in(path)]


def _without_parts(images: list[Path]) -> list[Path]:
    # The file that lists a set stands for all of its files.
    from cellwatch.images import sets
    from cellwatch.images.sets import pattern

    kept = []
    for path in images:
        index = sets.index_by_name(path)
        if index is None and (".ome." in path.name.lower() or pattern.named(path)):
            index = sets.index_of(path)
        if index is None or index == path or not index.exists():
            kept.append(path)
    return kept


def _without_previews(images: list[Path]) -> list[Path]:
    # JPEGs beside other images are pictures of them.
    others = [path for path in images if suffix_of(path.name) not in JPEGS]
    if others and len(others) < len(images):
        tell(f"{len(images) - len(others)} JPEGs beside other images are left out")
    return others or images


def _images_in(path: Path) -> list[Path]:
    # One that cannot be read is told when its turn comes.
    if suffix_of(path.name) not in WITH_MEMBERS:
        return [path]
    from cellwatch.images import images_in
    from cellwatch.images.whole import why_not_whole

    try:
        images = images_in(path)
    except UnreadableImage:
        return [path]
    if images != [path] and (reason := why_not_whole(path)):
        complain(f"{path}: {reason}; its {len(images)} complete images are taken")
    return images


def _is_input(path: Path) -> bool:
    is_one = path.is_file() or (suffix_of(path.name) in ZARRS and not _is_mask_store(path))
    is_inside = any(suffix_of(above.name) in ZARRS for above in path.parents)
    return (
        is_one and not is_inside and not path.stem.endswith(OURS) and not path.name.startswith(".")
    )


def _is_mask_store(path: Path) -> bool:
    try:
        return '"cellwatch"' in (path / "zarr.json").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
