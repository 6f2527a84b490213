"""The ledger's tables and views, as each migration makes them: never changed, only added to.

Rows are never deleted. Times are UTC, ISO 8601. Columns that hold lists are JSON.
"""

FIRST_LIGHT = """
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
    superseded_by INTEGER REFERENCES acquisitions (id),  -- the file was overwritten by this one
    UNIQUE (watch, path, fingerprint)
);
CREATE INDEX acquisitions_by_state ON acquisitions (state, superseded_by, id);
CREATE INDEX acquisitions_by_path ON acquisitions (path);
CREATE INDEX acquisitions_by_arrival ON acquisitions (arrived_at);
CREATE INDEX acquisitions_by_place ON acquisitions (place_key);

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
    files INTEGER
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
    stopped_at TEXT
);

CREATE VIEW failures AS
    SELECT id, path, state, reason, attempts, retry_at, state_since
    FROM acquisitions
    WHERE state IN ('failed', 'quarantined', 'interrupted', 'blocked', 'missing')
          AND superseded_by IS NULL;
CREATE VIEW masks AS
    SELECT a.id AS acquisition_id, a.path, a.store, t.name AS target, t.model_id,
           t.model_sha256, t.rois, t.diameter, t.params, t.channels, t.notes, a.finished_at
    FROM targets t JOIN acquisitions a ON a.id = t.acquisition_id
    WHERE t.state = 'done' AND a.superseded_by IS NULL;
CREATE VIEW waiting_times AS
    SELECT id, path, arrived_at, queued_at, started_at, finished_at,
           round((julianday(started_at) - julianday(queued_at)) * 86400, 3)
               AS seconds_queued,
           round((julianday(finished_at) - julianday(arrived_at)) * 86400, 3)
               AS seconds_in_all
    FROM acquisitions;
"""

CHOICE_OF_MODEL = """
-- How far the style is from the model's training images; 1: their reach.
ALTER TABLE targets ADD COLUMN novelty REAL;
-- JSON: cluster and neighbours, when a style chose the model.
ALTER TABLE targets ADD COLUMN choice TEXT;
DROP VIEW masks;
CREATE VIEW masks AS
    SELECT a.id AS acquisition_id, a.path, a.store, t.name AS target, t.model_id,
           t.model_sha256, t.rois, t.diameter, t.params, t.channels, t.notes, t.novelty,
           json_extract(t.choice, '$.cluster') AS cluster, a.finished_at
    FROM targets t JOIN acquisitions a ON a.id = t.acquisition_id
    WHERE t.state = 'done' AND a.superseded_by IS NULL;
"""

SET_FILES = """
CREATE TABLE set_files (
    watch TEXT NOT NULL,
    relative_path TEXT NOT NULL,       -- below the watched folder
    index_path TEXT NOT NULL,          -- likewise: of the file that lists the set
    size INTEGER NOT NULL,             -- bytes
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER,
    PRIMARY KEY (watch, relative_path)
);
CREATE INDEX set_files_by_index ON set_files (watch, index_path)
"""

MOVES_AND_PLATES = """
ALTER TABLE acquisitions ADD COLUMN moved_from TEXT;
ALTER TABLE acquisitions ADD COLUMN former_store TEXT;
ALTER TABLE acquisitions ADD COLUMN plate TEXT;
ALTER TABLE acquisitions ADD COLUMN well TEXT;
ALTER TABLE acquisitions ADD COLUMN field INTEGER;
ALTER TABLE folders ADD COLUMN due_at TEXT;
ALTER TABLE targets ADD COLUMN sharpness REAL;
ALTER TABLE targets ADD COLUMN background REAL;
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
CREATE INDEX acquisitions_by_content ON acquisitions (fingerprint, size);
CREATE INDEX acquisitions_by_superseding ON acquisitions (superseded_by)
    WHERE superseded_by IS NOT NULL;
CREATE INDEX acquisitions_by_former_store ON acquisitions (former_store)
    WHERE former_store IS NOT NULL;
CREATE INDEX acquisitions_to_do ON acquisitions
    (watch, compared_with IS NOT NULL, priority DESC, daemon_deaths >= 3, id)
    WHERE state = 'queued' AND superseded_by IS NULL;
CREATE INDEX acquisitions_to_retry ON acquisitions (watch, retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX acquisitions_by_plate ON acquisitions (watch, plate) WHERE plate IS NOT NULL
"""
