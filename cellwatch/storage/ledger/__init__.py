"""The SQLite ledger: its tables, its migrations, and one module for each subject."""
