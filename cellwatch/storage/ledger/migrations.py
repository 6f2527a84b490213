"""The migrations of the ledger; each runs once and is never edited."""

from sqlite_utils import Database, Migrations

from cellwatch.files.members import plate_field
from cellwatch.files.stems import name_key, stem_key
from cellwatch.storage.ledger.learning_tables import ACTIVE_CORRECTIONS, CHANGES_UNSEEN, THE_LOOP
from cellwatch.storage.ledger.path_text import path_text, text_path
from cellwatch.storage.ledger.tables import (
    CHOICE_OF_MODEL,
    FIRST_LIGHT,
    MOVES_AND_PLATES,
    SET_FILES,
)

migrations = Migrations("cellwatch")


@migrations()
def m001_first_light(db: Database) -> None:
    """Create what segmenting needs: acquisitions, their targets, attempts, models, the daemon."""
    # Not executescript: that commits first, and a migration is one transaction with its record.
    for statement in FIRST_LIGHT.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m002_choice_of_model(db: Database) -> None:
    """Record which model a classifier chose and why, and how novel an image is to its model."""
    for statement in CHOICE_OF_MODEL.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m003_the_loop(db: Database) -> None:
    """Create what learning needs: flags, corrections, runs, evidence, decisions, requests."""
    for statement in THE_LOOP.split(";\n"):
        if statement.strip():
            db.execute(statement)
    for key, relative in db.execute("SELECT id, relative_path FROM acquisitions").fetchall():
        stem = stem_key(text_path(relative))
        db.execute("UPDATE acquisitions SET stem = ? WHERE id = ?", [stem, key])


@migrations()
def m004_what_was_handed_out_and_grew(db: Database) -> None:
    """Remember what a session handed out, and a correction's own pixels beside its content key."""
    # A label TIFF; NULL: those of the store.
    db.execute("ALTER TABLE checkouts ADD COLUMN handed_out TEXT")
    # Digest of the acquisition as it was then; a file that grows keeps its first content key.
    db.execute("ALTER TABLE corrections ADD COLUMN pixels_sha256 TEXT")
    db.execute("UPDATE corrections SET pixels_sha256 = content_key")


@migrations()
def m005_scores_by_correction_and_planes_handed_out(db: Database) -> None:
    """Find scores by their correction; know a handed-out plane again; annotators have no case."""
    db.execute("CREATE INDEX scores_by_correction ON scores (correction_id)")
    # sha256 of all channels; NULL: handed out before this was written down.
    db.execute("ALTER TABLE checkouts ADD COLUMN plane_sha256 TEXT")
    rows = db.execute("SELECT DISTINCT annotator FROM corrections WHERE annotator != ''").fetchall()
    for (who,) in rows:
        sql = "UPDATE corrections SET annotator = ? WHERE annotator = ?"
        db.execute(sql, [name_key(who), who])


@migrations()
def m006_what_changes_unseen(db: Database) -> None:
    """Remember what tells that a file or a result was changed, and what was handed out."""
    for statement in CHANGES_UNSEEN.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m007_files_that_are_only_looked_at_again(db: Database) -> None:
    """Tell an image that is to be compared with what was segmented from one to segment."""
    # The content whose masks stand; NULL: it is to be segmented whatever it holds.
    db.execute("ALTER TABLE acquisitions ADD COLUMN compared_with TEXT")


@migrations()
def m008_states_instead_of_wording(db: Database) -> None:
    """Keep in columns what was read off the wording of reasons and notes."""
    for table, column, known_by in (
        # The labels were read within a region that a person checked.
        ("corrections", "is_in_region", "notes LIKE '%only the checked region counts%'"),
        # An orphan that waits for a disk or a share, not for its image.
        ("corrections", "is_blocked", "reason LIKE 'blocked: %'"),
        ("corrections", "is_taken_away", "remedy LIKE 'it was taken away; put back, %'"),
        # A correction took the flag off; a person did otherwise.
        ("flags", "is_lowered_by_correction", "lowered_why LIKE 'corrected in %'"),
        ("runs", "is_cancelled", "reason LIKE 'cancelled%'"),
    ):
        db.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
        db.execute(f"UPDATE {table} SET {column} = 1 WHERE {known_by}")


@migrations()
def m009_active_corrections(db: Database) -> None:
    """Name the part that a correction is of; make a second look a kind of correction."""
    for statement in ACTIVE_CORRECTIONS.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m010_checkouts_with_short_ids(db: Database) -> None:
    """Give a checkout an id that stands in the names of its files."""
    # NULL: handed out before there were ids; such files are known by their stem.
    db.execute("ALTER TABLE checkouts ADD COLUMN short_id TEXT")
    db.execute("CREATE UNIQUE INDEX checkouts_by_short_id ON checkouts (short_id)")


@migrations()
def m011_files_of_sets(db: Database) -> None:
    """Remember which files belong to a set, which another file lists."""
    for statement in SET_FILES.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m012_moves_and_plates(db: Database) -> None:
    """Let an image keep what is known of it under another path; name plate, well and field."""
    for statement in MOVES_AND_PLATES.split(";\n"):
        if statement.strip():
            db.execute(statement)
    for key, relative in db.execute("SELECT id, relative_path FROM acquisitions").fetchall():
        if place := plate_field(text_path(relative)):
            sql = "UPDATE acquisitions SET plate = ?, well = ?, field = ? WHERE id = ?"
            db.execute(sql, [path_text(place.plate), place.well, place.field, key])


@migrations()
def m013_summaries(db: Database) -> None:
    """Keep what an image's measurements come to; forget the confidences that left the flows out.

    Those are no measure for the ones of today.
    """
    for column in ("median_area", "covered", "intensity", "pixel_size_um"):
        db.execute(f"ALTER TABLE targets ADD COLUMN {column} REAL")
    db.execute("UPDATE targets SET confidence = NULL")
    db.execute(
        "UPDATE alarms SET ended_at = raised_at WHERE measure = 'confidence' AND ended_at IS NULL"
    )
