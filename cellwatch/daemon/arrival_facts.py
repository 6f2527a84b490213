"""What is recorded of a file that a watcher saw."""

from datetime import UTC, datetime

from cellwatch.config.schema import Watch
from cellwatch.files.members import container_of
from cellwatch.images import sets
from cellwatch.records import ImageInfo
from cellwatch.storage.ledger import acquisitions
from cellwatch.watching.names import experiment_of
from cellwatch.watching.settle import Sighting


def arrival_of(
    watched: Watch, sighting: Sighting, content: str, info: ImageInfo
) -> acquisitions.Arrival:
    """Return an arrival.

    Parameters
    ----------
    watched : Watch
    sighting : Sighting
    content : str
        Its fingerprint; "": it was not read.
    info : ImageInfo
    """
    return acquisitions.Arrival(
        watch=watched.name,
        path=str(watched.folder / sighting.path),
        relative_path=sighting.path,
        experiment=experiment_of(
            container_of(sighting.path), watched.experiment, _local_date(sighting)
        ),
        fingerprint=content,
        size=sighting.size,
        mtime_ns=sighting.mtime_ns,
        info=info,
        ctime_ns=sighting.ctime_ns,
    )


def known_by_name(watched: Watch, sighting: Sighting) -> ImageInfo:
    """Return what is known of a file that is not read yet: of a plate, its place."""
    well, field = sets.place_by_name(watched.folder / sighting.path)
    return ImageInfo(sighting.path, well=well, field=field)


def _local_date(sighting: Sighting) -> str:
    # By the file's own time: a scan after a night of being switched off finds yesterday's images.
    seconds = min(sighting.mtime_ns, acquisitions.LATEST_NS) / 1e9
    return datetime.fromtimestamp(seconds, UTC).astimezone().date().isoformat()
