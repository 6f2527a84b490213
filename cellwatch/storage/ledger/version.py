"""The version of the ledger's tables; apart, since commands that only read import nothing else."""

VERSION = 13  # as many as there are migrations
