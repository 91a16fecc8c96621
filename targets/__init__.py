"""Emitters, one per file format, that turn an artifact into the file a device loads; and the boards as data."""
