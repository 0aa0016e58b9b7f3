"""An independent witness for gradients."""
