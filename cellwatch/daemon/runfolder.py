"""What lies in a training's folder, and how a trainer ends: agreed on by it and its parent."""

JOB = "job.json"  # what it is told to do
REPORT = "report.json"  # what came of it
PROGRESS = "progress.json"
FAILURE = "failure.txt"  # why it came to nothing
CANDIDATE = "candidate"  # a model folder
REFUSED = 65  # EX_DATAERR: the corrections are at fault; the reason is in FAILURE
LEFT = 75  # EX_TEMPFAIL: told to leave; it goes on when it is started again
