# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: jupytext,kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Shown or learned? A first study in a few minutes
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/stn-bench/stn-bench/blob/main/notebooks/quickstart.ipynb)
#
# A classifier should know an object however it is turned, scaled or shifted. It can be **shown** transformed copies
# while it trains (augmentation), or it can **learn** where to look (a *spatial transformer*: a small network that
# chooses, for each image, how to warp it before it is classified). It can also have **both**, or **neither**.
# stn-bench trains all of these under one protocol and says which is better, by how much, at what cost, and how sure
# that is.
#
# Run the cells from top to bottom. No GPU, no download of images and no account are needed.

# %% [markdown]
# ## Install
#
# This does nothing where stn-bench is installed already. On Colab it takes a minute, and `pip` may warn that some of
# Colab's own packages want other versions; this notebook does not use those.

# %%
REPOSITORY = "https://github.com/stn-bench/stn-bench"

import importlib.util
import subprocess
import sys

if importlib.util.find_spec("experiments") is None:
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", REPOSITORY], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "./stn-bench"], check=True)
    importlib.invalidate_caches()

# %% [markdown]
# Everything below is written into a folder of its own, `quickstart`. The commands print plain lines, since a notebook's
# cell is not a terminal.

# %%
import html
import json
import os
import re
import shlex
from pathlib import Path

from IPython.display import HTML, IFrame, Markdown, display
from IPython.display import Image as Picture

if Path.cwd().name != "quickstart":
    Path("quickstart").mkdir(exist_ok=True)
    os.chdir("quickstart")
os.environ.update(TTY_COMPATIBLE="0", COLUMNS="110")
python = shlex.quote(sys.executable)

# %% [markdown]
# ## A study
#
# A study is a file. This one compares the four answers on *sprites*: ten shapes on a busy background, drawn by the
# program, each turned by up to 30°, scaled and shifted. The true pose of every sprite is known, so a fifth network that
# is told it, `oracle_unwarp`, shows how much there is to win.

# %%
with open("study.yaml", "w") as file:
    file.write("""\
name: quickstart
task: sprites           # or cifar10, mnist, folder:PATH

variants:               # what is compared, and with what
  - {variant: cnn, baseline: cnn}                         # neither
  - {variant: cnn+affine, baseline: cnn}                  # shown: turned, scaled, sheared and shifted copies
  - {variant: stn_affine, baseline: cnn}                  # learned: a spatial transformer before the same cnn
  - {variant: stn_affine+affine, baseline: cnn+affine}    # both
  - {variant: oracle_unwarp, baseline: cnn}               # the ceiling

claims:                 # what the study is to decide, declared before anything runs
  alpha: 0.05           # probability that any of them is made wrongly
  margin: 0.01          # a difference in accuracy that does not matter: one percentage point
  family:
    - {variant: cnn+affine, over: cnn}
    - {variant: stn_affine, over: cnn}
    - {variant: stn_affine+affine, over: cnn+affine}

search:                 # a real study tunes each variant, with the same number of trials; here there is no time for it
  space: {optim.lr: {value: 0.05}}

budgets:
  cpu:                  # a minute or two on two cores
    protocol:
      {image_px: 20, train_images: 1500, val_images: 200, test_images: 1000, epochs: 4, batch_size: 32,
       precision: fp32, robustness: none}
    trials: 1
    final_seeds: 7

wandb: {mode: offline}  # nothing is uploaded unless you say so
""")

# %% [markdown]
# `plan` says what would run, how long that takes here, and whether so many seeds can decide so many claims at all.

# %%
# !{python} -m experiments plan --sweep study.yaml --budget cpu

# %% [markdown]
# ## Carry it out
#
# `sweep` prints the plan again, then a line for each finished run, then tables and the answer in words. Stop it
# whenever you like: the same command goes on where it was.

# %%
# !{python} -m experiments sweep --sweep study.yaml --budget cpu

# %% [markdown]
# ## The answer
#
# The answer in one sentence, as the report has it, and the ablation table with its notes. A difference is in percentage
# points, paired by seed; ± is half of a 95 % interval.

# %%
NAME = "quickstart-sprites-cpu"
reports = Path("reports", NAME)
page = (reports / "report.html").read_text(encoding="utf-8")
headline = html.unescape(re.search('<meta name="description" content="(.*?)">', page)[1])
table = (reports / "ablation.md").read_text(encoding="utf-8").partition("\n## Runs")[0]
display(Markdown(f"> {headline}"), Markdown(f"##{table}"))

# %% [markdown]
# The claims as a figure: each difference with its intervals, and what it decides. Grey is the margin that does not
# matter.

# %%
display(Picture(str(reports / "forest.png"), width=900))

# %% [markdown]
# How the networks learned: curves that still rise at the end were cut short.

# %%
display(Picture(str(reports / "curves.png"), width=900))

# %% [markdown]
# ## What the transformers do
#
# The gallery has the same images as they are, and as the rest of each network sees them. Does a transformer follow each
# sprite, as `oracle_unwarp` does, or does it treat all images alike?

# %%
display(Picture(str(reports / "gallery.png"), width=900))

# %% [markdown]
# The same over many images: each orange frame is what is seen of one image. Frames that lie on top of each other are
# one crop for all images; the table *Transformers* above calls that `idle`.

# %%
display(Picture(str(reports / "look.png"), width=900))

# %% [markdown]
# Every run is a folder of the *ledger*, `runs/runs/KEY`, and each one with a transformer has such a picture: images
# before (above) and after (below). This is the first of the seven `stn_affine` runs.

# %%
study = json.loads(Path("runs/studies", NAME, "study.json").read_text(encoding="utf-8"))
finals = {arm["variant"]: arm["finals"] for arm in study["arms"]}
key = finals["stn_affine"][0]
print(key)
display(Picture(f"runs/runs/{key}/transformer.png", width=900))

# %% [markdown]
# ### What so small a study can say
#
# A claim that is decided holds for these images and this protocol: 1,500 images, 4 epochs, one learning rate. It does
# not say what helps elsewhere: augmented networks have not trained long enough here to profit, and the ceiling shows
# how much is left to win. Nor does a better score say that a transformer has learned *where to look*: one that treats
# all images alike has only found a better crop. That is why the report shows what a transformer does, beside what it
# scores.
#
# ## The whole report
#
# One HTML file that needs no network: tables that sort, all figures, the method in words, and the commands that make it
# again. It is `reports/quickstart-sprites-cpu/report.html` in the folder `quickstart`.

# %%
if "google.colab" in sys.modules:  # where pages cannot link to files
    display(HTML(page))
else:
    path = f"quickstart/{reports.as_posix()}/report.html"
    display(Markdown(f"[Open the report]({path})"), IFrame(path, width="100%", height=600))

# %% [markdown]
# ## Weights & Biases
#
# Each run was also written in W&B's format, offline: it lies in `quickstart/runs/wandb`. To see the runs in a browser,
# get an account at [wandb.ai](https://wandb.ai), then run this in a new cell:
#
# ```
# import wandb; wandb.login()
# !{python} -m experiments sync
# ```
#
# Without an account, `python -m experiments dashboard` shows the curves in a terminal, in the folder `quickstart`. The
# next cell uploads nothing and asks for nothing: it prints the link to the runs if you are logged in.

# %%
from experiments.tracking.tracker import resolve_mode

num_runs = len(list(Path("runs/wandb").glob("offline-run-*")))
if resolve_mode("auto") == "online":
    import wandb

    try:
        print(f"Once uploaded, the {num_runs} runs are at", wandb.Api(timeout=10).project(study["wandb_project"]).url)
    except Exception as fault:  # no network, or an old key: the notebook goes on
        print("W&B does not say where they would be:", fault)
else:
    print(f"You are not logged in to W&B: the {num_runs} runs stay here.")

# %% [markdown]
# ## Take a network with you
#
# `export` writes one run's network as a file that torch alone can run, with a model card.

# %%
# !{python} -m experiments export {key}

# %% [markdown]
# Six new sprites, which were in no part of the study, stand for your own images; the files are named after what they
# show. `predict` says what the network takes them for, how sure it is, and what its transformer does to them.

# %%
from PIL import Image, ImageOps

from experiments.images.tasks.sprites import SHAPES, draw

new = draw(2, range(6), image_px=20)
files = [f"{list(SHAPES)[label]}.png" for label in new.labels_N]
for file, pixels in zip(files, new.pixels_NHWC, strict=True):
    Image.fromarray(pixels).save(file)
images = " ".join(files)
# !{python} -m experiments predict {key} {images} --out predicted.png

# %% [markdown]
# Above: the images. Below: what the classifier sees of them.

# %%
display(Picture("predicted.png", width=720))

# %% [markdown]
# The model card's code, which needs nothing of stn-bench: it loads the exported file with torch and classifies the
# first image.

# %%
import numpy
import torch

exported = Path("exports", key)
config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
model = torch.export.load(exported / "model.pt2").module()


def classify(file):
    """Probabilities of the classes, (K)."""
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = ImageOps.fit(image, (config["image_px"],) * 2, Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None] / 255
    return model(pixels).softmax(1)[0].detach()


probabilities = classify(files[0])
print(config["classes"][int(probabilities.argmax())], float(probabilities.max()))

# %% [markdown]
# Does it say the same as `predict`, of all six?

# %%
command = [sys.executable, "-m", "experiments", "predict", key, *files, "--json"]
said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
difference = max(
    abs(each["probabilities"][name] - probability)
    for each in said
    for name, probability in zip(config["classes"], classify(each["file"]).tolist(), strict=True)
)
assert difference < 1e-4, f"the exported file differs from the network by {difference}"
print(f"The exported file and the network agree: probabilities differ by {difference:.1g} at most.")

# %% [markdown]
# ## Where to go on
#
# **Your own images**, in one folder for each class: does a transformer pay on them, or is augmentation enough? The
# command `probe` answers in ten minutes, `sweep` at length.
#
# ```
# !{python} -m experiments probe PATH/TO/IMAGES
# !{python} -m experiments sweep --sweep study.yaml --budget cpu --data PATH/TO/IMAGES
# ```
#
# **More certainty**: raise `final_seeds` in `study.yaml` and run the sweep again; only the runs that are missing are
# made.
#
# **A GPU**: the study that comes with stn-bench, `sweep.yaml`, has a budget for one: 45,000 images, 12 epochs, 20
# trials and 10 seeds a variant. In a clone, `make sweep BUDGET=gpu` carries it out, and
# `make sweep BUDGET=gpu DATA=path/to/images` does so on your own images. On Colab, choose a GPU under *Runtime >
# Change runtime type* first.
#
# **Reading**: [the concepts in one picture](https://github.com/stn-bench/stn-bench/blob/main/docs/concepts.md),
# [how to read the report](https://github.com/stn-bench/stn-bench/blob/main/docs/reading-the-report.md),
# [why the comparison is fair, and what it does not show](https://github.com/stn-bench/stn-bench/blob/main/docs/protocol.md),
# [a variant of your own, in one file](https://github.com/stn-bench/stn-bench/blob/main/docs/add-a-variant.md).
