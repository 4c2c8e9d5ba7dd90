"""Descriptions of the GGUF files of the families, for `gptzoo import-gguf` and `gptzoo export-gguf`."""
