"""What commands ask the daemon to do."""
