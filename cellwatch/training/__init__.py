"""Arrays in, network and scores out; no database, and no files but the run folder."""
