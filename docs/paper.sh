#!/bin/bash
# The paper, from its official files to one page, paper.md: `make paper DATA=... MODEL=... ENDPOINT=...`.
# docs/guides/paper.md explains the variables. Outputs that are up to date are skipped, so a stopped run resumes when it is started again.
set -euo pipefail

BIN=${BIN:-.venv/bin}
DATA=${DATA:-data}         # folder of the official files, laid out like conf/paper/files.csv
MODEL=${MODEL:-ViT-L-14}
PRETRAINED=${PRETRAINED:-datacomp_xl_s13b_b90k}
ENDPOINT=${ENDPOINT:-null} # OpenAI-compatible; null is OpenAI's own
LLM=${LLM:-}               # the language model's name; empty: the only one that the endpoint serves
SETS=${SETS:-awa2 cifar100 cub eurosat flowers102 sun397 generation}
SEEDS=${SEEDS:-0 1 2}
CELLS=${CELLS:-as in the paper, all of COCO, captions only, rewritten captions only, MSE loss, our settings} # of conf/ablations.yaml
STAGES=${STAGES:-files data train evaluate page}
SETTINGS=${SETTINGS:-}     # of every training: "trainer.precision: 16-mixed, data.num_workers: 8"
COCO_ARGS=${COCO_ARGS:-}   # further arguments of `pcclip-data` for COCO and CUB
CUB_ARGS=${CUB_ARGS:-}
PRICES=${PRICES:-0, 0}     # of a million prompt and of a million answer tokens, for the plan
[[ -z ${DRY_RUN:-} ]] || STAGES=plan
COCO=(--config conf/data/coco.yaml --config conf/data/coco_ablations.yaml --config conf/data/coco_paper.yaml)
FOLDER=runs/$(printf '%s %s' "$MODEL" "$PRETRAINED" | tr -c '[:alnum:].-' _) # a folder for each model
RUNS=$FOLDER/paper         # CELL-SEED/ of each training, base/ with CLIP's own numbers, and the page

experiments() { "$BIN/python" -m pcclip.experiments "$@"; }
sets() { echo "[coco, ${SETS// /, }]"; }

# Kind of a dataset's classes for the prompts, and the number of pairs of classes that are compared. AwA2 has no such texts.
class_texts() {
  case $1 in
    cifar100) echo things 30 ;;
    cub) echo birds 60 ;;
    eurosat) echo land 5 ;;
    flowers102) echo flowers 30 ;;
    sun397) echo places 100 ;;
  esac
}

plan() {
  experiments paper_plan "$MODEL" "$(sets)" --data "$DATA" --seeds "$(wc -w <<<"$SEEDS")" --prices "[$PRICES]"
  if [[ -n $LLM && -f data/coco/prepared/train/pairs.jsonl ]]; then # the last pairs to be drawn
    "$BIN/pcclip-data" describe "${COCO[@]}" --model "$LLM" --val_describe.dry_run true --train_describe.dry_run true \
      --thousand_describe.dry_run true
  fi
}

files() {
  if [[ -n ${DOWNLOAD:-} ]]; then
    "$BIN/pcclip-data" download --config conf/data/coco.yaml --data "$DATA/coco"
  fi
  experiments paper_files "$(sets)" --data "$DATA" --download "$([[ -n ${DOWNLOAD:-} ]] && echo true || echo false)"
}

data() {
  if [[ -z $LLM ]]; then
    LLM=$(curl -fsS "$ENDPOINT/models" | "$BIN/python" -c 'import json, sys; [model] = json.load(sys.stdin)["data"]; print(model["id"])') ||
      { echo "make paper: $ENDPOINT/models does not name one model; give the language model's name with LLM=..." >&2; exit 2; }
  fi
  local writer=(--model "$LLM" --base_url "$ENDPOINT") clip=(--clip "$MODEL" --pretrained "$PRETRAINED") set kind count
  "$BIN/pcclip-data" all "${COCO[@]}" "${writer[@]}" "${clip[@]}" $COCO_ARGS
  for set in $SETS; do
    if [[ $set == cub ]]; then "$BIN/pcclip-data" all --config conf/data/cub.yaml "${writer[@]}" $CUB_ARGS; fi
    read -r kind count < <(class_texts "$set") || continue
    "$BIN/pcclip-data" all --config conf/data/class_texts.yaml --set "$set" --kind "$kind" --count "$count" "${writer[@]}" "${clip[@]}"
  done
}

train() {
  experiments ablations conf/ablations.yaml paper --cells "[$CELLS]" --seeds "[${SEEDS// /, }]" --folder "$FOLDER" \
    --settings "{model.clip.name: '$MODEL', model.clip.pretrained: $PRETRAINED, trainer.devices: 1${SETTINGS:+, $SETTINGS}}" \
    --output "$RUNS/training.md" --pictures "$RUNS/images"
}

# Measure the model of a run, or CLIP itself, by a configuration of conf/eval on a dataset, unless the numbers are newer than the model.
measure() { # run configuration dataset
  local results=$RUNS/$1/eval/$2_$3.json unfinished=$RUNS/$1/eval/unfinished.$$ checkpoint=()
  if [[ $1 != base ]]; then
    checkpoint=("$(ls -t "$RUNS/$1"/finetune/*/checkpoints/last.ckpt | head -n 1)")
    if [[ $results -nt ${checkpoint[0]} ]]; then return; fi
    checkpoint=(--ckpt_path "${checkpoint[0]}")
  elif [[ -f $results ]]; then
    return
  fi
  rm -rf "$unfinished"
  "$BIN/pcclip" test --config "conf/eval/$2.yaml" --set "$3" --model.clip.name "$MODEL" --model.clip.pretrained "$PRETRAINED" \
    --trainer.devices 1 --trainer.callbacks.init_args.file "$unfinished/$2_$3.json" --trainer.callbacks.init_args.report null \
    ${checkpoint[@]+"${checkpoint[@]}"}
  mv "$unfinished"/* "$RUNS/$1/eval/" && rmdir "$unfinished"
  echo "moved to $RUNS/$1/eval"
}

# Whether images can be generated: with the weights of Stable Diffusion and the extra `generation`.
can_generate() { [[ -f data/stable_diffusion/model_index.json ]] && "$BIN/python" -c 'import diffusers' 2>/dev/null; }

evaluate() {
  local run runs=(base) seed set
  if [[ " $SETS " == *" generation "* ]] && ! can_generate; then
    echo "generated images are left out: data/stable_diffusion (conf/paper/files.csv) or the extra \`generation\` is missing"
    SETS=${SETS/generation/}
  fi
  for seed in $SEEDS; do
    for run in "$RUNS"/*-"$seed"/cell.json; do
      if [[ -f $run ]]; then runs+=("$(basename "$(dirname "$run")")"); fi
    done
  done
  for run in "${runs[@]}"; do
    for set in $SETS; do
      if [[ -f conf/eval/$set.yaml ]]; then measure "$run" "$set" "$set"; fi
      if [[ $set == cub ]]; then measure "$run" cub_differences cub_differences; fi
      if [[ -n $(class_texts "$set") ]]; then measure "$run" texts "$set"; fi
    done
  done
}

page() { experiments paper_page "[$CELLS]" "$RUNS"; }

for stage in $STAGES; do
  printf '\n== %s\n' "$stage"
  "$stage"
done
