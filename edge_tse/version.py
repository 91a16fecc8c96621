"""The version of edge-tse."""

__version__ = "0.1.0"
