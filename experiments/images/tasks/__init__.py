"""Tasks: images and labels, by name. One file each; the file's decorated function builds the task."""

from experiments.images.tasks.task import TASKS, Images, Say, Task, load_task

__all__ = ["TASKS", "Images", "Say", "Task", "load_task"]
