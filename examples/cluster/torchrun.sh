#!/bin/bash
# One share a process, on each of NODES machines: NODES=2 NODE=0 HEAD=node0:29500 ./torchrun.sh infer ... --out answers.jsonl
# GPUS processes a machine; each takes the GPU of its number.
set -euo pipefail

exec torchrun --nnodes="${NODES:-1}" --node-rank="${NODE:-0}" --nproc-per-node="${GPUS:-1}" \
  --rdzv-backend=c10d --rdzv-endpoint="${HEAD:-localhost:29500}" \
  --no-python bash -c 'CUDA_VISIBLE_DEVICES="$LOCAL_RANK" exec mgtool "$@" --rank torchrun --wait' mgtool "$@"
