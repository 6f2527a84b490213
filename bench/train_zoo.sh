#!/bin/sh
# Train the built-in zoo from scratch, one model folder each, then its classifier.
#   bench/train_zoo.sh DATA OUT [MODEL ...]
# DATA holds nuclei_dsb2018, nuclei_bbbc039 (BBBC038v1 stage 1 fluorescence with corrected masks,
# and BBBC039v1, both CC0), phase_t98g (Usiigaci, MIT) and histology_purple (BBBC038v1, CC0), each
# with train and test: pairs NNNN_img.tif + NNNN_masks.tif. In bfloat16 on two cores with AVX512-BF16
# 1,000 steps take 40 to 50 minutes; elsewhere say PRECISION=float32, which gives slightly other
# weights. A run that was cut off continues: cellwatch train --resume OUT/MODEL.
# The shipped `general` came of three runs of 1,000, 500 and 1,000 steps after the first 640; the
# first 1,000 with an earlier form of the specimens.
# `auto` takes the built-in models by their ids: copy the model folders to cellwatch/zoo/builtin
# first, and OUT/zoo/auto after it.
set -eu
data=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- first general phase nuclei auto
precision=${PRECISION:-bfloat16}
all="
    --data $data/nuclei_dsb2018/train --licence CC0 --test $data/nuclei_dsb2018/test
    --data $data/nuclei_bbbc039/train --licence CC0 --test $data/nuclei_bbbc039/test
    --data $data/phase_t98g/train --licence MIT --test $data/phase_t98g/test
    --data $data/histology_purple/train --licence CC0 --test $data/histology_purple/test"

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
    first)
        train first 30 --balanced $all
        ;;
    general)
        [ -f "$out/general/card.json" ] || cellwatch train \
            --from "$out/first" --schedule offline --steps 2500 --images-per-epoch 16 --seed 1 \
            --precision "$precision" --balanced --simulated 0.5 --vary-intensities $all \
            --about "cells of any kind, with a nucleus channel where there is one" \
            --flow-cache "$out/flows" --id general --out "$out/general"
        ;;
    phase)
        train phase 30 --licence MIT --data "$data/phase_t98g/train" \
            --test "$data/phase_t98g/test"
        ;;
    nuclei)
        train nuclei 17 --licence CC0 \
            --data "$data/nuclei_dsb2018/train" --data "$data/nuclei_bbbc039/train" \
            --test "$data/nuclei_dsb2018/test" --test "$data/nuclei_bbbc039/test"
        ;;
    auto)
        cellwatch zoo build --data "$data" --out "$out/zoo" --precision "$precision" \
            --style-model general --generalist general \
            --reuse nuclei_dsb2018=nuclei --reuse nuclei_bbbc039=nuclei \
            --reuse phase_t98g=phase --reuse histology_purple=general
        ;;
    *)
        echo "there is no model $model" >&2
        exit 2
        ;;
    esac
done
