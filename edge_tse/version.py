"""The version of edge-tse."""

__version__ = "0.2.0"
