"""The playground, a page for trying models in a browser, and the attention weights that it shows."""
