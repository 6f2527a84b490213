"""One job on one device: the pipeline of a worker, its models and memory, and what runs it."""
