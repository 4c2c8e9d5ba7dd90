"""How the `stories` corpus is told: words, a teller that makes sentences of them, scenes, and plots made of scenes."""
