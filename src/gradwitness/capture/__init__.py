"""Recording a torch program. Only this package and the experiment's program import torch."""

from gradwitness.capture.recorder import Recorder as Recorder
from gradwitness.capture.recorder import record as record
