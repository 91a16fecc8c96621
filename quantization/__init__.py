"""Float checkpoint to int8 artifact: corpus, recipes, training, quantization-aware training, freezing, evaluation."""
