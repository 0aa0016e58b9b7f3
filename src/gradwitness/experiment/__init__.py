"""The default experiment: a deep ReLU network, its gradients by autograd and by the witness."""

from gradwitness.experiment.config import PRESETS as PRESETS
from gradwitness.experiment.config import Config as Config
from gradwitness.experiment.config import preset as preset
from gradwitness.experiment.outcome import Outcome as Outcome
from gradwitness.experiment.outcome import run as run
from gradwitness.experiment.seeds import Extreme as Extreme
from gradwitness.experiment.seeds import Figures as Figures
from gradwitness.experiment.seeds import OneSeed as OneSeed
from gradwitness.experiment.seeds import Seeds as Seeds
from gradwitness.experiment.seeds import Worst as Worst
from gradwitness.experiment.seeds import run_seeds as run_seeds
from gradwitness.experiment.weights import load_weights as load_weights
