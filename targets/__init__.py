"""Artifact -> what a device loads: one emitter per file format, and the boards as data."""
