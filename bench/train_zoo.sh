#!/bin/sh
# Train the built-in zoo from scratch, one model folder each, then its classifier.
#   bench/train_zoo.sh DATA OUT [MODEL ...]
# DATA holds nuclei_dsb2018, nuclei_bbbc039 (BBBC038v1 stage 1 fluorescence with corrected masks,
# and BBBC039v1, both CC0), phase_t98g (Usiigaci, MIT) and histology_purple (BBBC038v1, CC0), each
# with train and test: pairs NNNN_img.tif + NNNN_masks.tif. 640 steps of 8 crops each, in bfloat16
# (on two cores with AVX512-BF16 about half an hour a model; elsewhere say PRECISION=float32, which
# gives slightly other weights). `auto` takes the built-in models by their ids: copy the model folders
# to cellwatch/zoo/builtin first, and OUT/zoo/auto after it.
set -eu
data=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- general phase histology nuclei cells auto
precision=${PRECISION:-bfloat16}

train() {
    id=$1 diameter=$2
    shift 2
    [ -f "$out/$id/card.json" ] || cellwatch train "$@" \
        --from scratch --schedule generalist --steps 640 --images-per-epoch 16 --seed 0 \
        --precision "$precision" --diam-mean "$diameter" \
        --flow-cache "$out/flows" --id "$id" --out "$out/$id"
}

for model in "$@"; do
    case $model in
    general)
        train general 30 --balanced \
            --data "$data/nuclei_dsb2018/train" --licence CC0 \
            --data "$data/nuclei_bbbc039/train" --licence CC0 \
            --data "$data/phase_t98g/train" --licence MIT \
            --data "$data/histology_purple/train" --licence CC0 \
            --test "$data/nuclei_dsb2018/test" --test "$data/nuclei_bbbc039/test" \
            --test "$data/phase_t98g/test" --test "$data/histology_purple/test"
        ;;
    phase)
        train phase 30 --licence MIT --data "$data/phase_t98g/train" \
            --test "$data/phase_t98g/test"
        ;;
    histology)
        train histology 17 --licence CC0 --data "$data/histology_purple/train" \
            --test "$data/histology_purple/test"
        ;;
    nuclei)
        train nuclei 17 --licence CC0 \
            --data "$data/nuclei_dsb2018/train" --data "$data/nuclei_bbbc039/train" \
            --test "$data/nuclei_dsb2018/test" --test "$data/nuclei_bbbc039/test"
        ;;
    cells)
        [ -f "$out/cells/card.json" ] || cellwatch train \
            --from general --schedule offline --steps 1000 --images-per-epoch 16 --seed 1 \
            --precision "$precision" --balanced --simulated 0.5 --vary-intensities \
            --data "$data/nuclei_dsb2018/train" --licence CC0 \
            --data "$data/nuclei_bbbc039/train" --licence CC0 \
            --data "$data/phase_t98g/train" --licence MIT \
            --data "$data/histology_purple/train" --licence CC0 \
            --test "$data/nuclei_dsb2018/test" --test "$data/nuclei_bbbc039/test" \
            --test "$data/phase_t98g/test" --test "$data/histology_purple/test" \
            --about "cells of any kind, with a nucleus channel where there is one" \
            --flow-cache "$out/flows" --id cells --out "$out/cells"
        ;;
    auto)
        cellwatch zoo build --data "$data" --out "$out/zoo" --precision "$precision" \
            --style-model general --generalist general \
            --reuse nuclei_dsb2018=nuclei --reuse nuclei_bbbc039=nuclei \
            --reuse phase_t98g=phase --reuse histology_purple=histology
        ;;
    *)
        echo "there is no model $model" >&2
        exit 2
        ;;
    esac
done
