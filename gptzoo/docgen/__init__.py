"""Reference documentation of kinds and components, generated from their code for the terminal and as Markdown."""
