"""Folder events and scans become finished files."""
