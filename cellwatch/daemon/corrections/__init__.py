"""Dropped corrections and flags: seen, matched to an image, read, recorded, answered."""
