"""Simulated specimens: label images, how they look, and the optics between them and the camera."""
