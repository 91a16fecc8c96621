"""Float networks in PyTorch, for training. The only torch in edge_tse; nothing at run time imports it."""
