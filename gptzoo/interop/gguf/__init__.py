"""GGUF, the file format of llama.cpp: one file with the settings, the tokenizer and the weights of a model."""
