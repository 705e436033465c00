#!/usr/bin/env bash
# Photographs to a scored answers file: detect -> pack -> infer -> eval. Usage: demo.sh [OUT]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-demo-out}
photos=$here/images
parts=$here/../../tests/conformance/mg_llava
export TRANSFORMERS_VERBOSITY=error TOKENIZERS_PARALLELISM=false

step() { printf '\n\033[1m$ mgtool %s\033[0m\n' "$1"; }

step "detect: the shipped detector finds objects in real photographs"
mgtool detect "$photos" --out "$out/boxes" --visualize 8
step "eval: its boxes against boxes drawn by hand"
mgtool eval "$out/boxes" --benchmark coco-detection --ground-truth "$here/instances.json" \
  --images "$photos" --out "$out/scores/detection"
step "pack: photographs, boxes and conversations as WebDataset tars"
mgtool pack "$here/conversations.json" --images "$photos" --boxes "$out/boxes" --out "$out/tars"
step "import: four published parts become one model folder"
mgtool import --checkpoint "$parts/mg_llava.pth" --llm "$parts/llm" --clip "$parts/clip" --convnext "$parts/convnext" \
  --template vicuna --out "$out/model"
step "infer: questions about the photographs"
mgtool infer "$here/pope_questions.jsonl" --images "$photos" --boxes "$out/boxes" --model "$out/model" \
  --max-new-tokens 8 --out "$out/answers/pope/answers.jsonl"
step "infer: the packed tars, captioned"
mgtool infer "$out/tars" --model "$out/model" --max-new-tokens 8 --out "$out/answers/tars/answers.jsonl"
step "eval: the answers as the official script scores them"
mgtool eval "$out/answers/pope/answers.jsonl" --benchmark pope \
  --ground-truth "$here/pope_random.jsonl" "$here/pope_popular.jsonl" "$here/pope_adversarial.jsonl" \
  --images "$photos" --boxes "$out/boxes" --out "$out/scores/pope"

ap=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["metrics"]["AP"]["value"])' "$out/scores/detection/scores.json")
printf '\nDetection is real: AP %.1f on the example photographs.\n' "$ap"
echo "The language part has random conformance weights: its answers, and so the POPE score, are noise."
echo "Reports: $out/scores/detection/report.html and $out/scores/pope/report.html"
echo "Boxes drawn: $out/boxes/visualized/"
