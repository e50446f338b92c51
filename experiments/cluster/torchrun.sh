#!/usr/bin/env bash
# Training on several machines with torchrun: start this on each of them, with the same MASTER and RUN_DIR (a folder
# that all of them see), and NODE_RANK=0, 1, ...
#   NODES=2 NODE_RANK=0 MASTER=node0:29500 GPUS=8 RUN_DIR=/shared/runs/one bash torchrun.sh experiment=tcmoa_large
# Started again with resume=RUN_DIR in place of the other arguments it goes on.
set -euo pipefail
NODES=${NODES:-1}
NODE_RANK=${NODE_RANK:-0}
MASTER=${MASTER:-localhost:29500}
GPUS=${GPUS:-$(nvidia-smi -L | wc -l)}
TRAINER=${TRAINER:-ddp}

exec torchrun --nnodes="$NODES" --node-rank="$NODE_RANK" --nproc-per-node="$GPUS" \
  --rdzv-backend=static --master-addr="${MASTER%%:*}" --master-port="${MASTER##*:}" \
  -m fusion.train "$@" trainer="$TRAINER" trainer.num_nodes="$NODES" trainer.devices="$GPUS" \
  ${RUN_DIR:+run_dir="$RUN_DIR"}
