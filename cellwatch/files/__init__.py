"""A file or folder appears whole or not at all, and is known by its digest."""
