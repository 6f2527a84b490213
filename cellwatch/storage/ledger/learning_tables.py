"""The tables of corrections, trainings and promotions, and what came with them."""

THE_LOOP = """
-- What corrections and flags are matched by: the name without its suffix, case folded.
ALTER TABLE acquisitions ADD COLUMN stem TEXT;
-- Higher goes first; images that are done again go after new ones.
ALTER TABLE acquisitions ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
CREATE INDEX acquisitions_by_stem ON acquisitions (stem);
CREATE INDEX acquisitions_by_experiment ON acquisitions (watch, experiment);

-- 0 to 1, without ground truth; NULL: no ROI.
ALTER TABLE targets ADD COLUMN confidence REAL;

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
    acquisition_id INTEGER REFERENCES acquisitions (id),  -- NULL: the image is not known yet
    name TEXT NOT NULL,                -- of the image, as it was given
    why TEXT,
    roi INTEGER,
    raised_by TEXT NOT NULL,
    file TEXT,                         -- in the flags folder, and its time; NULL: by a command
    mtime_ns INTEGER,
    raised_at TEXT NOT NULL,
    lowered_at TEXT,
    lowered_why TEXT
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
    checked_out_at TEXT NOT NULL
);
CREATE INDEX checkouts_by_stem ON checkouts (stem);

CREATE TABLE corrections (
    id INTEGER PRIMARY KEY,
    file TEXT NOT NULL,                -- below the corrections folder
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT,                       -- of its bytes, which are kept
    received_at TEXT NOT NULL,
    kind TEXT NOT NULL,                -- labels region
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
    is_again INTEGER NOT NULL DEFAULT 0,  -- a second look: the annotator's agreement, no training
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
    superseded_by INTEGER REFERENCES corrections (id)
);
CREATE INDEX corrections_by_state ON corrections (state, group_name);
CREATE INDEX corrections_by_file ON corrections (file);
CREATE INDEX corrections_by_acquisition ON corrections (acquisition_id);

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
    reason TEXT
);
CREATE UNIQUE INDEX one_night_per_date ON runs (group_name, local_date) WHERE kind = 'night';

-- Every network that was trained on a correction, also those of cross-fitting that are thrown away.
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

CREATE VIEW review_queue AS
    SELECT f.id AS flag_id, f.acquisition_id, coalesce(a.path, f.name) AS path, f.why, f.roi,
           f.raised_by, f.raised_at, a.state
    FROM flags f LEFT JOIN acquisitions a ON a.id = f.acquisition_id
    WHERE f.lowered_at IS NULL;
CREATE VIEW mixed_experiments AS
    SELECT a.watch, a.experiment, t.name AS target, count(DISTINCT t.model_sha256) AS models,
           group_concat(DISTINCT t.model_id) AS model_ids
    FROM targets t JOIN acquisitions a ON a.id = t.acquisition_id
    WHERE t.state = 'done' AND a.superseded_by IS NULL AND t.choice IS NULL
    GROUP BY a.watch, a.experiment, t.name HAVING models > 1;
"""


CHANGES_UNSEEN = """
-- Changes with every write, also where size and mtime were put back; NULL: not known.
ALTER TABLE acquisitions ADD COLUMN ctime_ns INTEGER;
-- missing or edited: what became of the mask store since it was written; NULL: nothing.
ALTER TABLE acquisitions ADD COLUMN output_mark TEXT;
-- JSON list: how the file was read, and what it did not say.
ALTER TABLE acquisitions ADD COLUMN file_notes TEXT;
-- Path of a file that holds its metadata and is not there; it is redone when that comes.
ALTER TABLE acquisitions ADD COLUMN lacks TEXT;
-- Of the label image as it was written; NULL: by a version that did not record it.
ALTER TABLE targets ADD COLUMN labels_sha256 TEXT;
-- Rejected for a doubt alone, and who called it right in spite of it.
ALTER TABLE corrections ADD COLUMN is_doubtful INTEGER NOT NULL DEFAULT 0;
ALTER TABLE corrections ADD COLUMN confirmed_by TEXT;
ALTER TABLE corrections ADD COLUMN confirmed_at TEXT;
-- Over how many planes rois is a sum; 0: none, or they were joined.
ALTER TABLE targets ADD COLUMN planes_apart INTEGER NOT NULL DEFAULT 0;
-- sha256 of the labels that were handed out, numbered 1..n; NULL: not known.
ALTER TABLE checkouts ADD COLUMN labels_sha256 TEXT;
CREATE INDEX acquisitions_by_output_mark ON acquisitions (output_mark)
    WHERE output_mark IS NOT NULL;
-- Why the daemon is degraded; NULL: it is not.
ALTER TABLE daemon ADD COLUMN trouble TEXT;
-- In which its worker computes.
ALTER TABLE daemon ADD COLUMN precision TEXT;
-- Files that look like images and are of no kind that is read, by watched folder and suffix.
CREATE TABLE unread (
    watch TEXT NOT NULL,
    suffix TEXT NOT NULL,              -- lower case, with its dot
    files INTEGER NOT NULL,
    example TEXT NOT NULL,             -- below the watched folder
    PRIMARY KEY (watch, suffix)
);
"""

ACTIVE_CORRECTIONS = """
UPDATE corrections SET kind = 'second_look' WHERE kind = 'labels' AND is_again = 1;
ALTER TABLE corrections DROP COLUMN is_again;
-- Which plane of which acquisition and target; NULL: the image is not known.
ALTER TABLE corrections ADD COLUMN plane_key TEXT GENERATED ALWAYS AS (
    acquisition_id || '/' || target || '/' || position || '/' || t || '/' || z) VIRTUAL;
-- Which part of it, and whose.
ALTER TABLE corrections ADD COLUMN part_key TEXT GENERATED ALWAYS AS (
    plane_key || '/' || coalesce(crop, '') || '/' || coalesce(annotator, '')) VIRTUAL;
CREATE INDEX corrections_by_part ON corrections (part_key);
CREATE INDEX corrections_by_plane ON corrections (plane_key);
-- Labels that apply to their part now.
CREATE VIEW active_corrections AS
    SELECT * FROM corrections WHERE kind = 'labels' AND state IN ('trainable', 'used');
"""
