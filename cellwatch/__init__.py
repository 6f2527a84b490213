"""Watch a microscope's folders, segment every new image, and learn from corrections."""

__version__ = "0.1.0"
