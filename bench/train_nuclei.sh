#!/bin/sh
# Train the built-in model `nuclei` from scratch; the result is a model folder.
#   bench/train_nuclei.sh DATA OUT
# DATA holds nuclei_dsb2018/train and nuclei_bbbc039/train: pairs NNNN_img.tif + NNNN_masks.tif of
# BBBC038v1 (stage 1, fluorescence, corrected masks) and BBBC039v1. About 70 minutes on two cores.
set -eu
cellwatch train \
    --data "$1/nuclei_dsb2018/train" --data "$1/nuclei_bbbc039/train" \
    --licence "CC0" --from scratch --schedule generalist --steps 320 --images-per-epoch 16 \
    --diam-mean 17 --seed 0 --id nuclei --out "$2"
