#!/bin/bash
# One share a task of a job array, as many at a time as there are places: sbatch slurm-array.sh detect photos/ --out boxes/
# Another number of tasks: sbatch --array=0-63 slurm-array.sh ...; a task that is preempted is queued again and goes on.
#SBATCH --job-name=mgtool
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=mgtool-%A-%a.log
set -euo pipefail

exec srun mgtool "$@" --rank slurm --wait
