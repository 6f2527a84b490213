"""Folders of images with masks: read, converted, downloaded."""
