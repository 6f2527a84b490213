"""Pictures of images and their ROIs."""
