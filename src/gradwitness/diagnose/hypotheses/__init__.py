"""The mistakes that are considered, a file for each kind: each predicts the resulting claims."""
