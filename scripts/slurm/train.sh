#!/bin/bash
# Trains on several machines under SLURM, through as many time limits as it takes.
#
#     sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 scripts/slurm/train.sh dataset=sop loss=ms
#
# SLURM starts one task for each GPU. Two minutes before the time limit every task gets SIGTERM: the run stops after
# its step and writes last.ckpt. The job then queues itself again, under the same number, and resume=auto goes on in
# the same folder, which all machines must see.
#SBATCH --job-name=dml
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out

STOPPED=143  # 128 + SIGTERM: how a run ends that was asked to stop

stop() {
  kill -TERM "$step" 2>/dev/null
}
trap stop USR1

srun --kill-on-bad-exit=1 python -m dml.train trainer=ddp \
  trainer.num_nodes="$SLURM_JOB_NUM_NODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  hydra.run.dir="outputs/slurm/$SLURM_JOB_ID" resume=auto callbacks.last_checkpoint.every_n_train_steps=500 "$@" &
step=$!
wait "$step"; code=$?
# A signal that the shell traps ends the first wait before the step has ended.
while kill -0 "$step" 2>/dev/null; do wait "$step"; code=$?; done
if [ "$code" -eq "$STOPPED" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
