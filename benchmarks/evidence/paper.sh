#!/bin/sh
# The paper's experiments at the scale of two cores: its own space (F=8, 3 cells) on CIFAR-10 at 16 pixels.
# sh benchmarks/evidence/paper.sh FOLDER CIFAR10: FOLDER is the run, CIFAR10 the folder of the images. A stopped run
# continues; add settings such as --runtime.threads 1 behind.
set -e
run=$1 images=$2
shift 2
supernet run cifar10-small --out "$run" --data.path "$images" --data.image_size 16 --data.crop 2 \
    --data.train_examples 10000 --train.epochs 24 --train.batch_size 128 \
    --search.candidates 2000 --search.top 4 --search.small 4 --search.random 4 --retrain.train.epochs 5 \
    --analysis.train.epochs 5 --analysis.per_bucket 4 --analysis.bucket 0.035 "$@"
supernet analyze "$run"
supernet analyze "$run" --sweep 1e-6,0.01,0.3
supernet analyze "$run" --at filters=4
supernet report "$run"
