"""Small pictures of results, for people to look at."""
