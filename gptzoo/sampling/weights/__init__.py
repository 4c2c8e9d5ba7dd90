"""Products with weights in oneDNN's blocked layout."""
