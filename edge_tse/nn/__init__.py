"""Float networks in PyTorch: what is trained. The only torch in edge_tse; nothing at run time imports it."""
