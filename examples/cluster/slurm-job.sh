#!/bin/bash
# One share a task of one job: sbatch slurm-job.sh infer questions.jsonl --model DIR --images photos/ --out answers.jsonl
# A task that ends does not end the others: what a dead one leaves, they do.
#SBATCH --job-name=mgtool
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=mgtool-%j.log
set -euo pipefail

exec srun --kill-on-bad-exit=0 mgtool "$@" --rank slurm --wait
