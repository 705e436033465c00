#!/usr/bin/env bash
# From nothing to the tiny model: scenes, boxes, tars, stage 0, the paper's two stages. Goes on where it was stopped.
# Usage: train.sh OUT [parts]      parts: end before the two stages, where the ablation begins.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: train.sh OUT [parts]}
python=${PYTHON:-python}
export TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false OMP_WAIT_POLICY=PASSIVE

for set in "train 12000" "test 1000" "test-b 1000"; do
  set -- $set
  [ -f "$out/data/$1/answers.json" ] || "$python" "$here/make.py" scenes "$out/data" --split "$1" --count "$2"
  mgtool detect "$out/data/$1/images" --detector tiny --out "$out/boxes/$1"
done
mgtool pack "$out/data/train/conversations.json" --images "$out/data/train/images" --boxes "$out/boxes/train" \
  --out "$out/tars/train-conversations"

# Two cores: the towers one after the other beside the language model.
pretrain() { for part in "$@"; do OMP_NUM_THREADS=1 "$python" "$here/pretrain.py" "$part" --out "$out/stage0"; done; }
pretrain high low &
pretrain llm
wait $!
"$python" "$here/pretrain.py" parts --out "$out/stage0"
parts=$out/stage0/parts
[ -f "$out/begin/config.json" ] || mgtool import --checkpoint "$parts/mg_llava.pth" --llm "$parts/llm" \
  --clip "$parts/clip" --convnext "$parts/convnext" --template vicuna --out "$out/begin"
[ "${2:-}" = parts ] && exit

stage() { # NAME MODEL OPTIONS... : into OUT/NAME, with a process for each of two cores
  local name=$1 model=$2; shift 2
  OMP_NUM_THREADS=1 torchrun --no-python --nproc-per-node 2 mgtool train "$@" --stage "$name" --model "$model" \
    --out "$out/$name" --batch-size 8 --device cpu
}
stage align "$out/begin" "$out/tars/train-conversations" --epochs 0.5 --learning-rate 2e-3
stage tune "$out/align" "$out/tars/train-conversations" --epochs 2 --learning-rate 5e-4
mkdir -p "$out/logs"
for part in high low llm; do cp "$out/stage0/$part/log.jsonl" "$out/logs/$part.jsonl"; done
cp "$parts/joints.jsonl" "$out/logs/"
for name in align tune; do cp "$out/$name/log.jsonl" "$out/logs/$name.jsonl"; done
"$python" "$here/ship.py" "$out/tune" "$out/tiny"
"$python" "$here/scores.py" "$out/tiny" "$out/scores/test" --set "$out/data/test" --boxes "$out/boxes/test"
