"""Corrections on disk: names, formats, what is kept of them, answers."""
