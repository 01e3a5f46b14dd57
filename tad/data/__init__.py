"""Text to tokens: corpora, packing, instruction data, vocabularies."""
