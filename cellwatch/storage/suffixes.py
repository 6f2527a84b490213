"""The names of image files, those that can be read and those that cannot; light to import."""

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".png")
# What microscopes and people write that is not read: it is counted, so that nobody waits in vain.
LIKE_IMAGES = (
    ".czi", ".nd2", ".lif", ".lof", ".xlef", ".oib", ".oif", ".oir", ".poir", ".vsi", ".ets",
    ".lsm", ".stk", ".zvi", ".ims", ".dv", ".r3d", ".sld", ".sldy", ".svs", ".ndpi", ".scn",
    ".mrxs", ".bif", ".qptiff", ".jpg", ".jpeg", ".jp2", ".gif", ".bmp", ".webp", ".h5", ".hdf5",
    ".mrc", ".nrrd", ".nii", ".dcm", ".c01", ".flex", ".liff", ".ipl", ".gel", ".nef", ".cr2",
    ".raw", ".dng", ".pic", ".avi", ".mp4",
)  # fmt: skip
