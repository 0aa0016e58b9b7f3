"""Functions tried at other shapes, memory layouts and numbers: when only they are wrong."""
