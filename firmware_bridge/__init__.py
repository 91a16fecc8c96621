"""Firmware bridge, from a compiled model to a running device: generated C, kernels, build, protocol, images, flashing, counting.

``codegen`` writes a graph as C for the library in ``c/``; ``build`` compiles it for this machine, for emulated boards and for
aarch64; ``native`` runs the same C here as a network. ``wire``, ``link`` and ``device`` are frames, bytes and commands; ``image``
and ``flash`` put a model on a board such that it boots the old one or the new one, whatever happens; ``meter`` counts instructions.
``archive`` packs the library for the build systems of others; ``plugin`` makes plugins for sound hosts of it.
"""
