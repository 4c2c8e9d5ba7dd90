"""From text to tokens: tokenizers, corpora, tokens on disk, and the order in which training reads them."""
