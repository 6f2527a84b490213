"""Build a zoo: cluster styles, train a network for each cluster, score and draw them."""
