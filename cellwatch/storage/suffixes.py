"""The names of image files that can be read; light to import."""

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".png")
