"""Pure functions on arrays: no files, clock, database, logging or configuration."""
