"""Compare models, tokenizers and transforms with recorded outputs of the reference implementation."""
