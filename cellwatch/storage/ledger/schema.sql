-- The ledger as the migrations make it; tests/storage/ledger/test_database.py holds the two equal.
-- Rows of images and of what people did are never deleted. Times are UTC, ISO 8601. Columns named is_... are 0 or 1.

CREATE TABLE acquisitions (
    id INTEGER PRIMARY KEY,
    watch TEXT NOT NULL,               -- name of the watched folder
    path TEXT NOT NULL,                -- absolute path of the file
    relative_path TEXT NOT NULL,       -- below the watched folder
    experiment TEXT NOT NULL,          -- first folder level, or the watch's name
    fingerprint TEXT NOT NULL,         -- size, head and tail: the content as it arrived
    content_sha256 TEXT,               -- of the whole file, once read
    size INTEGER NOT NULL,             -- bytes
    mtime_ns INTEGER NOT NULL,
    format TEXT,
    axes TEXT,
    shape TEXT,                        -- JSON list
    dtype TEXT,
    pixel_size_um REAL,
    channels TEXT,                     -- JSON list of names
    planes INTEGER,
    state TEXT NOT NULL,               -- waiting queued running done failed quarantined ...
    state_since TEXT NOT NULL,
    reason TEXT,                       -- why it failed or waits; NULL when nothing is wrong
    arrived_at TEXT NOT NULL,          -- first seen
    queued_at TEXT,                    -- first ready to be segmented
    started_at TEXT,                   -- last claim
    finished_at TEXT,
    seconds REAL,                      -- of the run that made the masks
    attempts INTEGER NOT NULL DEFAULT 0,
    worker_deaths INTEGER NOT NULL DEFAULT 0,
    daemon_deaths INTEGER NOT NULL DEFAULT 0,
    retry_at TEXT,
    lease_until TEXT,
    claimed_by TEXT,                   -- device of the worker that holds it
    store TEXT,                        -- where its mask store lies
    place_key TEXT,                    -- the store's folder and stem, as names that collide
    -- the file was overwritten by this one
    superseded_by INTEGER REFERENCES acquisitions (id),
    -- What corrections and flags are matched by: the name without its suffix, case folded
    stem TEXT,
    -- Higher goes first; images that are done again go after new ones
    priority INTEGER NOT NULL DEFAULT 0,
    -- Changes with every write, also where size and mtime were put back; NULL: not known
    ctime_ns INTEGER,
    -- missing or edited: what became of the mask store since it was written; NULL: nothing
    output_mark TEXT,
    file_notes TEXT,                   -- JSON list: how the file was read, and what it did not say
    -- Path of a file that holds its metadata and is not there; it is redone when that comes
    lacks TEXT,
    -- The content whose masks stand; NULL: it is to be segmented whatever it holds
    compared_with TEXT,
    -- Where the file lay before it was renamed or moved; NULL: it was not
    moved_from TEXT,
    -- Where its mask store lies until a worker gives it its new place; NULL: in its place
    former_store TEXT,
    -- Of an image that is a field of a plate; NULL: of none
    plate TEXT,
    well TEXT,
    field INTEGER,
    UNIQUE (watch, path, fingerprint)
);
CREATE INDEX acquisitions_by_arrival ON acquisitions (arrived_at);
CREATE INDEX acquisitions_by_content ON acquisitions (fingerprint, size);
CREATE INDEX acquisitions_by_experiment ON acquisitions (watch, experiment);
CREATE INDEX acquisitions_by_former_store ON acquisitions (former_store)
    WHERE former_store IS NOT NULL;
CREATE INDEX acquisitions_by_output_mark ON acquisitions (output_mark)
    WHERE output_mark IS NOT NULL;
CREATE INDEX acquisitions_by_path ON acquisitions (path);
CREATE INDEX acquisitions_by_place ON acquisitions (place_key);
CREATE INDEX acquisitions_by_plate ON acquisitions (watch, plate) WHERE plate IS NOT NULL;
CREATE INDEX acquisitions_by_state ON acquisitions (state, superseded_by, id);
CREATE INDEX acquisitions_by_stem ON acquisitions (stem);
CREATE INDEX acquisitions_by_superseding ON acquisitions (superseded_by)
    WHERE superseded_by IS NOT NULL;
CREATE INDEX acquisitions_to_do ON acquisitions
    (watch, compared_with IS NOT NULL, priority DESC, daemon_deaths >= 3, id)
    WHERE state = 'queued' AND superseded_by IS NULL;
CREATE INDEX acquisitions_to_retry ON acquisitions (watch, retry_at) WHERE retry_at IS NOT NULL;

CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    acquisition_id INTEGER NOT NULL REFERENCES acquisitions (id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    model_id TEXT,
    model_sha256 TEXT,
    params TEXT,                       -- JSON
    channels TEXT,                     -- JSON list of {index, name}
    rois INTEGER,
    diameter REAL,                     -- px, median over planes
    notes TEXT,                        -- JSON list
    finished_at TEXT,
    novelty REAL,                      -- How far the style is from the model's training images; 1: their reach
    choice TEXT,                       -- JSON: cluster and neighbours, when a style chose the model
    confidence REAL,                   -- 0 to 1, without ground truth; NULL: no ROI
    -- Of the label image as it was written; NULL: by a version that did not record it
    labels_sha256 TEXT,
    -- Over how many planes rois is a sum; 0: none, or they were joined
    planes_apart INTEGER NOT NULL DEFAULT 0,
    sharpness REAL,                    -- of the middle plane: fine detail over all contrast
    background REAL,                   -- of the middle plane: its 5th percentile
    -- Of all ROIs: their median area in px, the share of pixels in them, and the mean intensity
    -- there of the first channel that was fed
    median_area REAL,
    covered REAL,
    intensity REAL,
    pixel_size_um REAL,                -- that was used: declared, or the file's
    UNIQUE (acquisition_id, name)
);

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    acquisition_id INTEGER NOT NULL REFERENCES acquisitions (id),
    number INTEGER NOT NULL,
    device TEXT NOT NULL,
    worker_pid INTEGER,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    outcome TEXT,                      -- done unchanged failed worker_died daemon_died handed_back
    reason TEXT
);
CREATE INDEX attempts_by_acquisition ON attempts (acquisition_id);

CREATE TABLE models (
    id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    card TEXT NOT NULL,                -- JSON
    first_used_at TEXT NOT NULL,
    PRIMARY KEY (id, sha256)
);

CREATE TABLE folders (
    name TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    state TEXT NOT NULL,               -- watching paused offline blocked
    reason TEXT,
    scanned_at TEXT,
    files INTEGER,
    due_at TEXT                        -- when it is looked into next
);

CREATE TABLE daemon (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    state TEXT NOT NULL,
    pid INTEGER,
    host TEXT,
    boot_id TEXT,
    version TEXT,
    device TEXT,
    config TEXT,                       -- path of the configuration file
    workers TEXT,                      -- JSON list of {pid, started}
    started_at TEXT,
    heartbeat_at TEXT,
    stopped_at TEXT,
    trouble TEXT,                      -- Why the daemon is degraded; NULL: it is not
    precision TEXT                     -- In which its worker computes
);

CREATE TABLE station (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    arguments TEXT NOT NULL,           -- JSON
    asked_by TEXT NOT NULL,            -- user of the machine
    asked_at TEXT NOT NULL,
    state TEXT NOT NULL,               -- asked done refused
    answer TEXT,                       -- JSON, or why it was refused
    answered_at TEXT
);
CREATE INDEX requests_by_state ON requests (state);

CREATE TABLE flags (
    id INTEGER PRIMARY KEY,
    -- NULL: the image is not known yet
    acquisition_id INTEGER REFERENCES acquisitions (id),
    name TEXT NOT NULL,                -- of the image, as it was given
    why TEXT,
    roi INTEGER,
    raised_by TEXT NOT NULL,
    file TEXT,                         -- in the flags folder, and its time; NULL: by a command
    mtime_ns INTEGER,
    raised_at TEXT NOT NULL,
    lowered_at TEXT,
    lowered_why TEXT,
    -- 0: a person lowered it
    is_lowered_by_correction INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX flags_by_acquisition ON flags (acquisition_id);

CREATE TABLE checkouts (
    id INTEGER PRIMARY KEY,
    acquisition_id INTEGER NOT NULL REFERENCES acquisitions (id),
    target TEXT NOT NULL,
    stem TEXT NOT NULL,                -- of the files handed out, case folded
    position INTEGER NOT NULL,
    t INTEGER NOT NULL,
    z INTEGER NOT NULL,
    crop TEXT,                         -- JSON {y, x, height, width}; NULL: the whole plane
    is_mirrored INTEGER NOT NULL,      -- handed out again, mirrored in both axes
    format TEXT NOT NULL,
    folder TEXT NOT NULL,
    checked_out_at TEXT NOT NULL,
    handed_out TEXT,                   -- A label TIFF; NULL: those of the store
    -- sha256 of all channels; NULL: handed out before this was written down
    plane_sha256 TEXT,
    -- sha256 of the labels that were handed out, numbered 1..n; NULL: not known
    labels_sha256 TEXT,
    -- Stands in the names of its files; NULL: handed out before there were ids
    short_id TEXT
);
CREATE INDEX checkouts_by_stem ON checkouts (stem);
CREATE UNIQUE INDEX checkouts_by_short_id ON checkouts (short_id);

CREATE TABLE corrections (
    id INTEGER PRIMARY KEY,
    file TEXT NOT NULL,                -- below the corrections folder
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT,                       -- of its bytes, which are kept
    received_at TEXT NOT NULL,
    kind TEXT NOT NULL,                -- labels region second_look
    state TEXT NOT NULL,               -- rejected orphan trainable used superseded withdrawn
    state_since TEXT NOT NULL,
    reason TEXT,
    remedy TEXT,
    acquisition_id INTEGER REFERENCES acquisitions (id),
    target TEXT,
    group_name TEXT,
    position INTEGER,
    t INTEGER,
    z INTEGER,
    crop TEXT,                         -- JSON {y, x, height, width}; NULL: the whole plane
    annotator TEXT,
    checkout_id INTEGER REFERENCES checkouts (id),
    format TEXT,
    content_key TEXT,                  -- of the acquisition's pixels, under whatever name
    folder TEXT,                       -- where its original and its arrays are kept
    model_id TEXT,                     -- of the prediction that was corrected
    model_sha256 TEXT,
    rois INTEGER,
    predicted INTEGER,
    added INTEGER,
    removed INTEGER,
    changed INTEGER,
    ap50 REAL,                         -- of the prediction against the correction
    agreement REAL,                    -- AP@0.5 with another look at the same plane
    minutes REAL,                      -- between checkout and drop
    notes TEXT,                        -- JSON list
    superseded_by INTEGER REFERENCES corrections (id),
    -- Digest of the acquisition as it was then; a file that grows keeps its first content key
    pixels_sha256 TEXT,
    -- Rejected for a doubt alone, and who called it right in spite of it
    is_doubtful INTEGER NOT NULL DEFAULT 0,
    confirmed_by TEXT,
    confirmed_at TEXT,
    -- labels that were read within a region that a person checked
    is_in_region INTEGER NOT NULL DEFAULT 0,
    -- an orphan that waits for a disk or a share, not for its image
    is_blocked INTEGER NOT NULL DEFAULT 0,
    -- a file that its person took away before it was accepted
    is_taken_away INTEGER NOT NULL DEFAULT 0,
    -- Which plane of which acquisition and target; NULL: the image is not known
    plane_key TEXT GENERATED ALWAYS AS (
        acquisition_id || '/' || target || '/' || position || '/' || t || '/' || z) VIRTUAL,
    -- Which part of it, and whose
    part_key TEXT GENERATED ALWAYS AS (
        plane_key || '/' || coalesce(crop, '') || '/' || coalesce(annotator, '')) VIRTUAL
);
CREATE INDEX corrections_by_acquisition ON corrections (acquisition_id);
CREATE INDEX corrections_by_file ON corrections (file);
CREATE INDEX corrections_by_part ON corrections (part_key);
CREATE INDEX corrections_by_plane ON corrections (plane_key);
CREATE INDEX corrections_by_state ON corrections (state, group_name);

CREATE TABLE groups (
    name TEXT PRIMARY KEY,
    base_model_id TEXT NOT NULL,       -- frozen at the first training
    base_model_sha256 TEXT NOT NULL,
    frozen_at TEXT NOT NULL
);

CREATE TABLE sides (
    group_name TEXT NOT NULL,
    content_key TEXT NOT NULL,
    side TEXT NOT NULL,                -- train held_out, for good
    decided_at TEXT NOT NULL,
    PRIMARY KEY (group_name, content_key)
);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    group_name TEXT NOT NULL,
    kind TEXT NOT NULL,                -- night asked session
    local_date TEXT NOT NULL,
    state TEXT NOT NULL,               -- running ended failed skipped
    started_at TEXT NOT NULL,
    ended_at TEXT,
    seconds REAL,                      -- running time
    folder TEXT,
    job TEXT,                          -- JSON
    model_id TEXT,                     -- of the candidate
    model_sha256 TEXT,
    reason TEXT,
    -- a person gave it up
    is_cancelled INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX one_night_per_date ON runs (group_name, local_date) WHERE kind = 'night';

CREATE TABLE trained_on (
    model_sha256 TEXT NOT NULL,
    correction_id INTEGER NOT NULL REFERENCES corrections (id),
    content_key TEXT NOT NULL,
    run_id INTEGER REFERENCES runs (id),
    PRIMARY KEY (model_sha256, correction_id)
);
CREATE INDEX trained_on_content ON trained_on (model_sha256, content_key);

CREATE TABLE scores (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,                -- test_then_train held_out cross_fit
    model_id TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    correction_id INTEGER NOT NULL REFERENCES corrections (id),
    content_key TEXT NOT NULL,
    run_id INTEGER REFERENCES runs (id),
    ap50 REAL NOT NULL,
    ap75 REAL,
    true_positives INTEGER NOT NULL,
    false_positives INTEGER NOT NULL,
    false_negatives INTEGER NOT NULL,
    found TEXT,                        -- of each true ROI in order, 1: found, 0: not
    scored_at TEXT NOT NULL
);
CREATE INDEX scores_by_correction ON scores (correction_id);
CREATE INDEX scores_by_model ON scores (model_sha256);

CREATE TABLE promotions (
    id INTEGER PRIMARY KEY,
    group_name TEXT NOT NULL,
    verdict TEXT NOT NULL,             -- promoted provisional confirmed revoked declined ...
    model_id TEXT NOT NULL,            -- in use from here on, or, if declined, not
    model_sha256 TEXT NOT NULL,
    previous_id TEXT,                  -- in use before
    previous_sha256 TEXT,
    reason TEXT NOT NULL,
    numbers TEXT,                      -- JSON
    run_id INTEGER REFERENCES runs (id),
    decided_by TEXT NOT NULL,
    decided_at TEXT NOT NULL
);
CREATE INDEX promotions_by_group ON promotions (group_name, id);

CREATE TABLE pins (
    watch TEXT NOT NULL,
    experiment TEXT NOT NULL,          -- or the path of one acquisition
    target TEXT NOT NULL,
    model_id TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    pinned_by TEXT NOT NULL,
    pinned_at TEXT NOT NULL,
    PRIMARY KEY (watch, experiment, target)
);

CREATE TABLE unread (
    watch TEXT NOT NULL,
    suffix TEXT NOT NULL,              -- lower case, with its dot
    files INTEGER NOT NULL,
    example TEXT NOT NULL,             -- below the watched folder
    PRIMARY KEY (watch, suffix)
);

CREATE TABLE set_files (
    watch TEXT NOT NULL,
    relative_path TEXT NOT NULL,       -- below the watched folder
    index_path TEXT NOT NULL,          -- likewise: of the file that lists the set
    size INTEGER NOT NULL,             -- bytes
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER,
    PRIMARY KEY (watch, relative_path)
);
CREATE INDEX set_files_by_index ON set_files (watch, index_path);

CREATE TABLE alarms (
    id INTEGER PRIMARY KEY,
    watch TEXT NOT NULL,
    experiment TEXT NOT NULL,
    target TEXT NOT NULL,
    measure TEXT NOT NULL,             -- rois confidence sharpness background novelty
    told TEXT NOT NULL,
    -- The first image that differed
    acquisition_id INTEGER NOT NULL REFERENCES acquisitions (id),
    raised_at TEXT NOT NULL,
    ended_at TEXT
);
CREATE INDEX alarms_by_experiment ON alarms (watch, experiment);

CREATE VIEW active_corrections AS
    SELECT * FROM corrections WHERE kind = 'labels' AND state IN ('trainable', 'used');

CREATE VIEW failures AS
    SELECT id, path, state, reason, attempts, retry_at, state_since
    FROM acquisitions
    WHERE state IN ('failed', 'quarantined', 'interrupted', 'blocked', 'missing')
          AND superseded_by IS NULL;

CREATE VIEW masks AS
    SELECT a.id AS acquisition_id, a.path, a.store, t.name AS target, t.model_id,
           t.model_sha256, t.rois, t.diameter, t.params, t.channels, t.notes, t.novelty,
           json_extract(t.choice, '$.cluster') AS cluster, a.finished_at
    FROM targets t JOIN acquisitions a ON a.id = t.acquisition_id
    WHERE t.state = 'done' AND a.superseded_by IS NULL;

CREATE VIEW mixed_experiments AS
    SELECT a.watch, a.experiment, t.name AS target, count(DISTINCT t.model_sha256) AS models,
           group_concat(DISTINCT t.model_id) AS model_ids
    FROM targets t JOIN acquisitions a ON a.id = t.acquisition_id
    WHERE t.state = 'done' AND a.superseded_by IS NULL AND t.choice IS NULL
    GROUP BY a.watch, a.experiment, t.name HAVING models > 1;

CREATE VIEW review_queue AS
    SELECT f.id AS flag_id, f.acquisition_id, coalesce(a.path, f.name) AS path, f.why, f.roi,
           f.raised_by, f.raised_at, a.state
    FROM flags f LEFT JOIN acquisitions a ON a.id = f.acquisition_id
    WHERE f.lowered_at IS NULL;

CREATE VIEW waiting_times AS
    SELECT id, path, arrived_at, queued_at, started_at, finished_at,
           round((julianday(started_at) - julianday(queued_at)) * 86400, 3)
               AS seconds_queued,
           round((julianday(finished_at) - julianday(arrived_at)) * 86400, 3)
               AS seconds_in_all
    FROM acquisitions;
