"""The version of the ledger's tables; apart, since commands that only read import nothing else."""

VERSION = 12  # as many as there are migrations
