"""Mask stores and label TIFFs, and where they lie."""
