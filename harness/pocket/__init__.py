"""The pocket model: weights, tokenizer, card, and the script that made them."""
