#!/usr/bin/env bash
# From nothing to the tiny model: scenes, boxes, tars, stage 0, the paper's two stages. Goes on where it was stopped.
# Usage: train.sh OUT [parts]      parts: end before the two stages, where the ablation begins.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:?usage: train.sh OUT [parts]}
python=${PYTHON:-python}
export TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false OMP_WAIT_POLICY=PASSIVE

while read -r name count; do
  [ -f "$out/data/$name/answers.json" ] || "$python" "$here/make.py" scenes "$out/data" --split "$name" --count "$count"
  mgtool detect "$out/data/$name/images" --detector tiny --out "$out/boxes/$name" </dev/null
done <<<$'train 24000\ntest 1000\ntest-b 1000'
mgtool pack "$out/data/train/conversations.json" --images "$out/data/train/images" --boxes "$out/boxes/train" \
  --out "$out/tars/train-conversations"

# Two cores: the towers one after the other beside the language model.
pretrain() { for part in "$@"; do OMP_NUM_THREADS=1 "$python" "$here/pretrain.py" "$part" --out "$out/stage0"; done; }
pretrain high low &
pretrain llm
wait $!
parts=$out/stage0/parts
if [ ! -f "$out/begin/config.json" ]; then
  "$python" "$here/pretrain.py" parts --out "$out/stage0"
  mgtool import --checkpoint "$parts/mg_llava.pth" --llm "$parts/llm" --clip "$parts/clip" --convnext "$parts/convnext" \
    --template vicuna --out "$out/begin"
fi
[ "${2:-}" = parts ] && exit
[ -f "$out/together/config.json" ] || "$python" "$here/together.py" "$out/begin" "$out/together" --boxes "$out/boxes/train"

stage() { # NAME MODEL OPTIONS... : into OUT/NAME, with a process for each of two cores
  local name=$1 model=$2; shift 2
  OMP_NUM_THREADS=1 torchrun --no-python --nproc-per-node 2 mgtool train "$@" --stage "$name" --model "$model" \
    --out "$out/$name" --batch-size 8 --device cpu
}
stage align "$out/together" "$out/tars/train-conversations" --epochs 0.25 --learning-rate 1e-4
stage tune "$out/align" "$out/tars/train-conversations" --epochs 3 --learning-rate 1e-4
mkdir -p "$out/logs"
for part in high low llm; do cp "$out/stage0/$part/log.jsonl" "$out/logs/$part.jsonl"; done
cp "$parts/joints.jsonl" "$out/logs/"
for name in together align tune; do cp "$out/$name/log.jsonl" "$out/logs/$name.jsonl"; done
"$python" "$here/ship.py" "$out/tune" "$out/tiny"
for name in test test-b; do
  "$python" "$here/scores.py" "$out/tiny" "$out/scores/$name" --set "$out/data/$name" --boxes "$out/boxes/$name"
done
