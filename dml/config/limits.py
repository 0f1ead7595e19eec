"""Which of Lightning's limits a run may have."""

from typing import Any

from dml.errors import UserError

# Values that evaluate every image; null does too.
WHOLE = {
    "fast_dev_run": (False, 0),
    "overfit_batches": (0,),
    "limit_val_batches": (1.0,),
    "limit_test_batches": (1.0,),
    "num_sanity_val_steps": (0, -1),
}


def check_limits(trainer: Any) -> None:
    """Refuse limits under which a part of the images would be evaluated.

    Training may be cut short by `max_time` or `limit_train_batches`: `steps` in `metrics.json` says how far it went.
    """
    for key, whole in WHOLE.items():
        value = trainer.get(key)
        one_batch = key.startswith("limit_") and isinstance(value, int)  # 1 is a batch and 1.0 all of them
        if value is not None and (one_batch or value not in whole):
            raise UserError(
                f"trainer.{key}={value} would evaluate a part of the images, whose Recall@K is no result: leave it "
                "out; debug=fast is a short run."
            )
