"""Where runs are carried out, and by what."""

from experiments.sweep.executors.places import Executor as Executor
from experiments.sweep.executors.places import Place as Place
from experiments.sweep.executors.places import WorkerDied as WorkerDied
from experiments.sweep.executors.places import Workers as Workers
from experiments.sweep.executors.places import open_place as open_place
