"""Intake, compute workers and supervision: the only place where the layers meet."""
