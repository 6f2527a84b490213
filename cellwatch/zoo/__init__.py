"""Networks on disk, write-once."""
