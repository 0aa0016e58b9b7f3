"""The public functions, a file for each; `gradwitness` itself exports them."""
