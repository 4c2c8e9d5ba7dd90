"""The generator behind the `stories` corpus: words, sentence building, scenes, and plots composed of scenes."""
