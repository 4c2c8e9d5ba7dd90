"""What can be said of kinds and components from their code alone: for the terminal, and as pages in Markdown."""
