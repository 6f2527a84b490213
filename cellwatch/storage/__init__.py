"""The ledger, the mask store, and the readers of images."""
