"""What runs without a daemon: train, evaluate, try models, simulate a microscope."""
