"""What may have gone wrong, a file for each cause: each says what the claims would then be."""
