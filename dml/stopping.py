"""Stopping when asked to, between two steps and on every process at the same one."""

import logging
import signal
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dml.distributed import is_first_process, world_size

CODE_OF_SIGTERM = 143

log = logging.getLogger(__name__)  # of Lightning's own loggers only warnings are shown


class StopRequests:
    """Notes Ctrl-C and SIGTERM instead of being torn out of a step; a second Ctrl-C stops at once.

    A signal may reach one process only, and each at another moment. `agreed` makes one decision of it.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take over the signals until `ignore`."""
        if threading.current_thread() is threading.main_thread() and not self._before:
            self._before = {
                number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
            }

    def ignore(self) -> None:
        """Hand the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        if is_first_process():
            log.info(f"{signal.Signals(number).name}: stopping after this step and a validation that is due.")

    def agreed(self, device: torch.device) -> BaseException | None:
        """What to stop with if any process was asked to; every process must call, after the same step."""
        received = self.received
        if world_size() > 1:
            flag = torch.tensor(received, device=device)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            received = int(flag)
        if not received:
            return None
        return KeyboardInterrupt() if received == signal.SIGINT else SIGTERMException(CODE_OF_SIGTERM)
