"""What the ledger tells people: of the station, of learning, of doubts."""
