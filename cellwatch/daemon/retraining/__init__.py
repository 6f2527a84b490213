"""Nightly training: what is trained, the training, its evaluation, what follows from it."""
