"""The place of what makes a compiled model a running device: C kernels, build, wire protocol, flashing.

Nothing of it exists yet.
"""
