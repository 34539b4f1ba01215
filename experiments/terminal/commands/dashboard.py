"""`dashboard`: open the dashboard of the newest study's tracker."""

from jsonargparse import Namespace

from experiments.tracking.dashboard import dashboard
from ledger.ledger import Ledger


def main(options: Namespace) -> int:
    ledger = Ledger(options.runs, read_only=True)
    studies = ledger.studies()
    study = ledger.read_study(studies[0]) if studies else {}
    is_trackio = study.get("tracker") == "trackio"
    dashboard(options.runs, "trackio" if is_trackio else "wandb", study.get("wandb_project", ""))
