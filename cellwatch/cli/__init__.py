"""Arguments in; text, tables or JSON and an exit code out."""
