"""Programs to record, and the tests of recording them."""
