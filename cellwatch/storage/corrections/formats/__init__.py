"""One reader for each format of corrected masks."""
